"""A part of a page that may fail without the rest."""

import contextlib
from collections.abc import Iterator

import streamlit as st

from app.services.server.faults import explain
from app.ui.common.text import plain


@contextlib.contextmanager
def guarded(before: str = "", **words: str) -> Iterator[None]:
    """Show, in place of what fails inside, why; `before` stands before the reason, `words` are those of `explain`."""
    try:
        yield
    except Exception as error:
        st.error(before + plain(explain(error, **words)), icon=":material/error:")
