"""Bounded caches that keep the entries used last."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def cached(cache: OrderedDict[K, T], key: K, make: Callable[[], T], limit: int) -> T:
    """Return the entry of a key, made if it is missing; keep the `limit` used last. The caller holds the lock."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > limit:
        cache.popitem(last=False)
    return cache[key]


class _Entry(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[T] = []


class SharedCache(Generic[K, T]):
    """Entries shared by all readers. The first to ask makes an entry; only those who ask for the same one wait."""

    def __init__(self, limit: int) -> None:
        """Keep the `limit` entries that were used last."""
        self._limit = limit
        self._entries: OrderedDict[K, _Entry[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], T]) -> T:
        """Return the entry of a key, made if it is missing; after an exception the next caller tries again."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._limit:
                self._entries.popitem(last=False)
        if not entry.made:
            with entry.lock:
                if not entry.made:
                    entry.made.append(make())
        return entry.made[0]
