"""The bar of a piece of work that the page waits for."""

import streamlit as st

from app.ui.common.text import plain
from trim.progress import Progress


def progress_bar(progress: Progress) -> None:
    """Show what is being done, how much of it, and for how long."""
    st.progress(progress.fraction or 0.0, text=plain(progress))
