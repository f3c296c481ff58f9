"""A warning of what a page cannot show of its address appears once, also where the page runs again by itself."""

from streamlit.testing.v1 import AppTest


def page() -> None:
    import streamlit as st

    from app.ui.common.address import repeat_notices, show_refused, store_address

    store_address()
    st.slider("target", 1, 99, 70, key="target", bind="query-params")
    show_refused()
    if st.session_state.pop("by itself", False):
        repeat_notices()
        st.rerun()


def test_a_warning_stays_until_the_reader_does_something():
    test = AppTest.from_function(page)
    test.query_params["target"] = "999"
    test.session_state["by itself"] = True
    test.run()
    (warning,) = test.warning
    assert "999" in warning.value
    assert not test.run().warning
