"""The first page while its packages are imported, for the first reader of a server."""

import importlib
import sys

import streamlit as st

_IMPORTED = (
    "app.ui.layer.linked",
    "app.services.layer.shipped",
    "trim.compiled.order",
    "trim.compiled.sweep",
    "trim.compiled.search",
    "trim.compiled.hull",
    "trim.compiled.counts",
)


def import_first_page() -> None:
    """Import what the Layer page takes."""
    if all(name in sys.modules for name in _IMPORTED):
        return
    place = st.empty()
    place.caption("The first layer is being drawn.")
    for name in _IMPORTED:
        importlib.import_module(name)
    place.empty()
