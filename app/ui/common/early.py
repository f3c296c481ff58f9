"""The first page while its packages are imported, for the first reader of a server."""

import importlib
import sys

import plotly.graph_objects as go
import streamlit as st

_IMPORTED = (
    "app.ui.layer.cards",
    "app.ui.layer.inspector",
    "app.services.layer.shipped",
    "trim.compiled.order",
    "trim.compiled.sweep",
    "trim.compiled.search",
    "trim.compiled.hull",
    "trim.compiled.counts",
)


def import_first_page() -> None:
    """Import what the Layer page takes; meanwhile the browser, which has seen a chart, fetches what draws charts."""
    if all(name in sys.modules for name in _IMPORTED):
        return
    place = st.empty()
    with place.container():
        st.caption("The first layer is being drawn.")
        st.plotly_chart(go.Figure(), key="early")
    for name in _IMPORTED:
        importlib.import_module(name)
    place.empty()
