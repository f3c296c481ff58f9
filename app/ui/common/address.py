"""The values in the page's address, and those among them that the page cannot show.

Streamlit silently drops a value that it cannot use; a presenter who shares a link should hear of it.
"""

import math
from typing import Literal

import streamlit as st

from app.ui.common.text import literal

# The argument `bind` of Streamlit's widgets: whether the address holds the value.
Bind = Literal["query-params"] | None


def store_address() -> None:
    """Store the address's values at the start of the session, before widgets read them; drop unreadable ones."""
    if "address" not in st.session_state:
        st.session_state["address"] = {name: st.query_params.get_all(name) for name in st.query_params}
    endless = [name for name in st.query_params if any(map(_endless, st.query_params.get_all(name)))]
    for name in endless:  # Streamlit's number boxes would raise an error
        del st.query_params[name]
    if endless:
        st.rerun()  # what a widget receives first is the address with which a run began


def show_refused() -> None:
    """Report once, after the widgets, which values of the address are not shown."""
    address = st.session_state.get("address", {})
    refused = [
        f"{name}={values[-1][:40]}"
        for name, values in address.items()
        if name in st.session_state and not _same(values[-1], st.session_state[name])
    ]
    st.session_state["reported_address"], st.session_state["address"] = address, {}
    if refused:
        st.warning(
            f"The address asks for {literal(', '.join(refused))}, which this page cannot show; it shows its own "
            "values instead.",
            icon=":material/link_off:",
        )


def repeat_notices() -> None:
    """Repeat this run's notices in the rerun that the page is about to start by itself."""
    st.session_state["address"] = st.session_state.get("reported_address", {})


def _endless(value: str) -> bool:
    try:
        return math.isinf(float(value))
    except ValueError:
        return False


def _same(value: str, shown: object) -> bool:
    return value.strip().casefold() == str(shown).strip().casefold()
