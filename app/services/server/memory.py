"""The server's memory: what is loaded at the start stays, and need not be looked through again and again."""

import functools
import gc


@functools.cache
def settle() -> None:
    """Keep what is loaded by now out of garbage collection; once, when everything large has been imported.

    Streamlit collects garbage after every run of a page. Looking through the million objects of torch and transformers
    would take longer than the page itself, and all readers wait meanwhile.
    """
    gc.collect()
    gc.freeze()
