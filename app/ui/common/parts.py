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
