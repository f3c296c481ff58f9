"""The first page for the first reader of a server."""

import asyncio
import sys
import threading

from streamlit.testing.v1 import AppTest

from app.server import Guarded
from app.ui.common import early


def _page():
    import streamlit as st

    from app.ui.common.early import import_first_page

    import_first_page()
    st.button("below")


def test_what_is_below_keeps_its_place_when_the_imports_are_done(monkeypatch):
    monkeypatch.setattr(early, "_IMPORTED", ("tabnanny",))
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    page = AppTest.from_function(_page).run()
    places = [place for place, element in page.main.children.items() if element.type == "button"]
    assert "tabnanny" in sys.modules
    page.run()
    assert places == [place for place, element in page.main.children.items() if element.type == "button"]
    assert places


def test_the_first_request_begins_the_imports(monkeypatch):
    monkeypatch.setattr(early, "_FRAME", ())
    monkeypatch.setattr(early, "_IMPORTED", ("tabnanny",))
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    early.import_ahead.cache_clear()
    asked = []

    async def inside(scope, receive, send) -> None:
        asked.append(scope["type"])

    asyncio.run(Guarded(inside)({"type": "lifespan"}, None, None))
    assert "tabnanny" not in sys.modules
    asyncio.run(Guarded(inside)({"type": "http"}, None, None))
    for thread in threading.enumerate():
        if thread.name == "trim-import":
            thread.join(10)
    assert "tabnanny" in sys.modules
    assert asked == ["lifespan", "http"]
