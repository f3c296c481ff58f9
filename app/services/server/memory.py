"""The server's memory: keep objects that are loaded for good out of garbage collection."""

import gc
import sys

_frozen: set[bool] = set()


def freeze_gc(*, now: bool = False) -> None:
    """Freeze all loaded objects once, and again after torch was loaded.

    Looking through the quarter of a million objects of the packages and of torch takes longer than a page itself, and
    all readers wait until it is done; so `.streamlit/config.toml` asks for no collection after every run. The job that
    loads torch calls it before any model is loaded: frozen with the rest, models would never be collected.

    Args:
        now: freeze in any case.
    """
    with_torch = "torch" in sys.modules
    if now or with_torch not in _frozen:
        _frozen.add(with_torch)
        gc.collect()
        gc.freeze()
