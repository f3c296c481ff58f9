"""Wait for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 300


def wait_until(condition: Callable[[], T], why: Callable[[], object] = str) -> T:
    """Call `condition` until it returns something true, and return that; use at most a fifth of a core.

    Raises:
        AssertionError: it takes longer than `PATIENCE_SECONDS`; the message is what `why` then returns.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        began = time.process_time()
        if answer := condition():
            return answer
        assert time.monotonic() < deadline, why()
        time.sleep(max(0.05, 4 * (time.process_time() - began)))
