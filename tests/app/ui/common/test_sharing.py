"""A card that many readers look at is drawn once, and what was drawn changes for nobody."""

import gc

from streamlit.testing.v1 import AppTest

from app.services.server.memory import freeze_gc


def page() -> None:
    """Return a card that two sessions share, as one that shares nothing would show it."""
    import streamlit as st

    from app.ui.common.cards import View, card
    from diagnostics.figures.model_map import model_map_figure
    from diagnostics.model_map import ModelMap

    shown = ModelMap(st.query_params["name"], ("0.a", "0.b"), (), "cosim_flat")

    def view() -> View:
        st.session_state["made"] = True
        return View(model_map_figure(shown, "median_gini"), "seen", "formula", "alt", dict)

    card("c", {"Map": view}, file_name="f", selectable=frozenset(["Map"]), on_select=print, shared=shown)


def visit(**address: str) -> AppTest:
    test = AppTest.from_function(page)
    for name, value in address.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def spec(test: AppTest) -> str:
    return test.get("plotly_chart")[0].proto.spec


def test_readers_share_what_they_see_in_the_same_looks():
    first, second = visit(name="shared"), visit(name="shared")
    assert "made" in first.session_state
    assert "made" not in second.session_state
    assert spec(first) == spec(second)
    assert [each.value for each in first.markdown] == [each.value for each in second.markdown]
    larger = visit(name="shared", present="1")
    assert "made" in larger.session_state
    assert spec(larger) != spec(first)
    assert "made" in visit(name="another").session_state
    assert spec(visit(name="shared")) == spec(first)


def test_what_was_loaded_is_not_looked_through_again():
    freeze_gc()
    frozen = gc.get_freeze_count()
    assert frozen > 100_000
    freeze_gc()
    assert gc.get_freeze_count() == frozen
