"""A control of segments, of which one is always chosen."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import streamlit as st

from app.ui.common.address import Bind

T = TypeVar("T")


def segments(
    label: str,
    options: Iterable[T],
    key: str,
    *,
    default: T | None = None,
    bind: Bind = None,
    format_func: Callable[[Any], str] = str,
    labelled: bool = False,
    help: str | None = None,
) -> T:
    """Show the control, and return what is chosen; the default where the address holds nothing after its "=".

    Args:
        label: the control's label, for screen readers too.
        options: the choices.
        key: the control's key, and its name in the address.
        default: the option that is chosen at first; None: the first.
        bind: "query-params" if the address holds the choice.
        format_func: returns the text of an option.
        labelled: whether the label is visible.
        help: a text that appears on hover.
    """
    options = list(options)
    first = options[0] if default is None else default
    chosen: T | None = st.segmented_control(
        label,
        options,
        default=first,
        format_func=format_func,
        required=True,
        key=key,
        bind=bind,
        help=help,
        label_visibility="visible" if labelled else "collapsed",
    )
    return first if chosen is None else chosen
