"""Rows of a layer shared out among threads.

A compiled function runs without Python's lock and takes block after block of rows off a counter that all threads
share, until none is left. A row is computed by one thread, so results do not depend on how many there are. The caller
works too and does not wait for a thread that has not begun: any number of callers may share the threads, and a
caller needs none.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def thread_count() -> int:
    """Count the threads that share the rows of a layer: OMP_NUM_THREADS, or the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_rows(function: Callable[..., None], rows: int, block_rows: int, *arguments: object) -> None:
    """Call a compiled function in as many threads as there are, and return when all blocks are done.

    Args:
        function: takes a counter, (1,) int64, the rows of a block and `arguments`; calls `next_block` on the counter.
        rows: D.
        block_rows: how many rows a thread takes at a time.
        *arguments: for the function.
    """
    counter = np.zeros(1, dtype=np.int64)
    others = min(thread_count(), -(-rows // block_rows)) - 1
    tasks = [_threads().submit(function, counter, block_rows, *arguments) for _ in range(others)]
    try:
        function(counter, block_rows, *arguments)
    finally:
        begun = [task for task in tasks if not task.cancel()]
    for task in begun:
        task.result()


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="trim-rows")
        return _pool


def _forget_threads() -> None:
    """Start again in a fork: it has none of its parent's threads, and perhaps a lock that one of them held."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
