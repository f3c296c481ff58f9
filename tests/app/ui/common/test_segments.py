"""One segment is always chosen, whatever the address says."""

import pytest
from streamlit.testing.v1 import AppTest


def page() -> None:
    import streamlit as st

    from app.ui.common.segments import segments

    st.caption(segments("Which", ("a", "b", "c"), "which", default="b", bind="query-params"))


@pytest.mark.parametrize(("asked", "chosen"), [(None, "b"), ("c", "c"), ("", "b"), ("x", "b")])
def test_what_the_address_asks_for(asked, chosen):
    test = AppTest.from_function(page)
    if asked is not None:
        test.query_params["which"] = asked
    test.run()
    assert not test.exception
    assert test.caption[0].value == chosen
