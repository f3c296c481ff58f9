"""Whether a figure is open over the page: running all of the page would close it, and what was typed would be lost."""

import streamlit as st

_OPEN = "figure_open"


def figure_opened() -> None:
    """Note that a figure was opened."""
    st.session_state[_OPEN] = True


def figure_closed() -> None:
    """Note that it was closed, by its reader or because all of the page runs."""
    st.session_state[_OPEN] = False


def rerun_page() -> None:
    """Run all of the page for something that came by itself; while a figure is open, return and do nothing."""
    if not st.session_state.get(_OPEN):
        st.rerun()
