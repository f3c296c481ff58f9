"""The choice of a page's part."""

from collections.abc import Sequence

import streamlit as st

OVERVIEW = "Overview"
ALL_LAYERS = "All layers"  # of a model, to pick one


def choose_part(parts: Sequence[str], key: str = "part") -> str:
    """Choose which part of the page is open; the address holds it under the key."""
    part = st.segmented_control(
        "Part of the page",
        list(parts),
        default=OVERVIEW,
        required=True,
        key=key,
        bind="query-params",
        label_visibility="collapsed",
    )
    return part or OVERVIEW


def go_to_layer(name: str) -> None:
    """Ask the Layer page for another layer of its model, in a callback. It opens with its overview.

    The part is chosen here and not when the layer is there: until then the page may have to wait without showing the
    control, and would take the part from the address afterwards.
    """
    st.session_state["go_to_layer"], st.session_state["part"] = name, OVERVIEW
