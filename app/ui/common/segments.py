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
        label: for those who do not see it, too.
        options: what can be chosen.
        key: the control's, and its name in the address.
        default: of the options; None: the first.
        bind: "query-params" where the address shall hold the choice.
        format_func: writes an option.
        labelled: whether the label is seen.
        help: about it.
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
