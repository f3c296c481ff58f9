"""The progress bar of work that the page waits for."""

import streamlit as st

from app.ui.common.text import plain
from trim.progress import Progress


def progress_bar(progress: Progress) -> None:
    """Show the step, the share that is done, and the time left."""
    st.progress(progress.fraction or 0.0, text=plain(progress))
