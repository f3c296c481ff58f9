"""Whether a figure is open over the page: a rerun of the whole page would close it and lose typed texts."""

import streamlit as st

_OPEN = "figure_open"


def figure_opened() -> None:
    """Note that a figure was opened."""
    st.session_state[_OPEN] = True


def figure_closed() -> None:
    """Note that the figure was closed, by its reader or by a rerun of the whole page."""
    st.session_state[_OPEN] = False


def rerun_page() -> None:
    """Rerun the whole page after an update that no reader requested, unless a figure is open."""
    if not st.session_state.get(_OPEN):
        st.rerun()
