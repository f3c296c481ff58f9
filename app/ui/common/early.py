"""The first page while its packages are imported, for the first reader of a server."""

import sys

import streamlit as st

from app.services.layer.shipped import prepare_first_picture


def wait_for_first_picture() -> None:
    """Say that the first picture is coming, until what it takes is imported and its layer is searched."""
    if "trim.compiled.search" in sys.modules:
        return
    place = st.empty()
    place.caption("The first layer is being drawn.")
    prepare_first_picture()
    place.empty()
