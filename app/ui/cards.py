"""Charts in frames: the figure, what is to be seen in it, and its formula one click away."""

import plotly.graph_objects as go
import streamlit as st

CHART_CONFIG = {"displaylogo": False, "showSendToCloud": False, "displayModeBar": "hover"}


def chart(figure: go.Figure, *, key: str, seen: str, formula: str, alt: str) -> None:
    """One view: a figure, one sentence of what is to be seen, and its formula."""
    with st.container(border=True):
        st.plotly_chart(figure, key=key, theme=None, config=CHART_CONFIG, alt=alt)
        words, button = st.columns([5, 1], vertical_alignment="top")
        words.caption(seen)
        with button.popover("Formula", type="tertiary"):
            st.markdown(formula)


def theme() -> str:
    """"light" or "dark", as the reader's page is now."""
    return st.context.theme.type or "light"
