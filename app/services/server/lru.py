"""Bounded caches: the entries used last stay, and are not made again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def cached(cache: OrderedDict[K, T], key: K, make: Callable[[], T], most: int) -> T:
    """Return the entry of a key, made now if it is new; the `most` used last stay. The caller holds the lock."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
    return cache[key]


class _Entry(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[T] = []


class Shared(Generic[K, T]):
    """Entries shared by all readers: made once, by the first who asks; only those wait who ask for the same."""

    def __init__(self, most: int) -> None:
        """Keep the `most` entries that were used last."""
        self._most = most
        self._entries: OrderedDict[K, _Entry[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], T]) -> T:
        """Return the entry of a key, made now if it is new; what raises is tried again by the next who asks."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
        if not entry.made:
            with entry.lock:
                if not entry.made:
                    entry.made.append(make())
        return entry.made[0]
