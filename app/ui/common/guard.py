"""Contain the failure of a part of a page."""

import contextlib
from collections.abc import Iterator

import streamlit as st

from app.services.server.faults import explain
from app.ui.common.text import literal
from trim.errors import TrimError


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Show why the action inside was refused or failed on the disk."""
    try:
        yield
    except (TrimError, OSError) as error:
        st.error(literal(error), icon=":material/error:")


@contextlib.contextmanager
def guarded(before: str = "", **texts: str) -> Iterator[None]:
    """Show why the part inside failed, in its place, after the text `before`; `texts` go to `explain`."""
    try:
        yield
    except Exception as error:
        st.error(before + literal(explain(error, **texts)), icon=":material/error:")
