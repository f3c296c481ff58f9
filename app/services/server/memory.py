"""The server's memory: what is loaded for good is not looked through again and again by the garbage collector."""

import gc
import sys

_frozen: set[bool] = set()


def freeze_gc(*, now: bool = False) -> None:
    """Keep what is loaded by now out of garbage collection; once, and again when torch has been loaded since.

    Looking through the quarter of a million objects of the packages and of torch takes longer than a page itself, and
    all readers wait until it is done; so `.streamlit/config.toml` asks for no collection after every run. The job that
    loads torch calls it before any model is loaded: frozen with the rest, models would never be collected.

    Args:
        now: in any case.
    """
    with_torch = "torch" in sys.modules
    if now or with_torch not in _frozen:
        _frozen.add(with_torch)
        gc.collect()
        gc.freeze()
