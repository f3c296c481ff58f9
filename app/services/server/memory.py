"""The server's memory: what is loaded for good is not looked through again and again by the garbage collector."""

import functools
import gc
import sys


def freeze_gc() -> None:
    """Keep what is loaded by now out of garbage collection; once, and again when torch has been loaded since.

    Streamlit collects garbage after every run of a page. Looking through the quarter of a million objects of its own
    packages and torch would take longer than the page itself, and all readers wait meanwhile. Models are loaded by
    pages that have loaded torch before: frozen with the rest, they would never be collected.
    """
    _freeze("torch" in sys.modules)


@functools.cache
def _freeze(_with_torch: bool) -> None:
    gc.collect()
    gc.freeze()
