"""Wait for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 300


def wait_until(found: Callable[[], T], why: Callable[[], object] = str) -> T:
    """Ask until the answer is true, and return it; asking takes a fifth of a core at most.

    AssertionError after `PATIENCE_SECONDS`, with what `why` then returns.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        asked = time.process_time()
        if answer := found():
            return answer
        assert time.monotonic() < deadline, why()
        time.sleep(max(0.05, 4 * (time.process_time() - asked)))
