"""The choice of a page's part, and charts that change controls outside their own part."""

from collections.abc import Sequence

import streamlit as st

from app.ui.common.segments import segments

OVERVIEW = "Overview"
ALL_LAYERS = "All layers"  # of a model, to pick one


def choose_part(parts: Sequence[str], key: str = "part") -> str:
    """Choose the open part of the page, which the address holds under the key."""
    return segments("Part of the page", parts, key, default=OVERVIEW, bind="query-params")


def go_to_layer(name: str) -> None:
    """Ask the Layer page for the overview of another layer of its model, in a callback.

    The part is chosen now and not when the layer is loaded: while the page waits it does not show the control, and
    would take the part from the address afterwards.
    """
    st.session_state["go_to_layer"], st.session_state["part"] = name, OVERVIEW


def rerun_control(key: str) -> None:
    """Rerun the fragment with the control that a chart has changed, in the chart's callback."""
    if (fragment := st.session_state.get("controls_in")) is not None:
        st.session_state["control_changed"] = key
        st.rerun(fragment)


def controls_in(fragment: str | None) -> None:
    """Begin the fragment with the controls, if the charts have a fragment of their own."""
    st.session_state["controls_in"] = fragment
    if (key := st.session_state.pop("control_changed", None)) in st.session_state:
        # Streamlit changes the address only for what is set in the run that draws the control.
        st.session_state[key] = st.session_state[key]
