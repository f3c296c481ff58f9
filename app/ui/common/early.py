"""Make the first page quick for the first reader of a server: import and compute ahead."""

import functools
import importlib
import sys
import threading

import streamlit as st

_WAIT = 4.0  # seconds, for the browser to draw: it shares the cores
_IMPORTED = ("app.ui.layer.linked", "app.services.layer.shipped")
_FRAME = ("app.ui.common.seminar", "app.ui.common.present", "app.ui.common.slots")


@functools.cache
def import_ahead() -> None:
    """Start the first page's imports in the background, once, while the first browser loads the frame."""

    def import_all() -> None:
        for name in (*_FRAME, *_IMPORTED):
            importlib.import_module(name)

    threading.Thread(target=import_all, name="trim-import", daemon=True).start()


def import_first_page() -> None:
    """Import the modules of the Layer page, and show a message meanwhile.

    The message's place exists in every run: without it, all elements below would move up by one in the second run,
    and Streamlit would redraw them.
    """
    message = st.empty()
    if all(name in sys.modules for name in _IMPORTED):
        return
    message.caption("The first layer is being drawn.")
    for name in _IMPORTED:
        importlib.import_module(name)
    message.empty()


@functools.cache
def sweep_shipped_layer() -> None:
    """Sweep the shipped layer in the background, once: its first view needs no curves, but another target does."""
    timer = threading.Timer(_WAIT, _sweep)
    timer.daemon = True
    timer.start()


def _sweep() -> None:
    from app.services.layer.shipped import ShippedLayer, shipped_layer

    if isinstance(shipped := shipped_layer(), ShippedLayer):
        shipped.prepare()
