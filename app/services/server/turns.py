"""Draw a few pages at a time, in the order of the requests.

All pages share one interpreter. Where thirty are drawn at once each waits for all the others; one after the other, the
first is there at once and the last no later.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

PAGES_AT_A_TIME = 2  # one computes while the other reads or waits for numbers
PATIENCE_SECONDS = 5.0


class Turns:
    """Lets a few threads at a time do their work, in order; whoever has waited long enough goes ahead anyway."""

    def __init__(self, places: int, patience: float) -> None:
        """Set how many may work at a time, and after how many seconds nobody waits any longer."""
        self._free, self._patience = places, patience
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and hold it until the end of the block."""
        mine = threading.Event()
        with self._lock:
            if self._free > 0:
                self._free -= 1
                mine.set()
            else:
                self._waiting.append(mine)
        mine.wait(self._patience)
        try:
            yield
        finally:
            with self._lock:
                if mine in self._waiting:  # it did not get a turn in time, and went ahead without
                    self._waiting.remove(mine)
                elif self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._free += 1


PAGES = Turns(PAGES_AT_A_TIME, PATIENCE_SECONDS)
