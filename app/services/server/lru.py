"""Bounded caches: the entries used last stay, and are not made again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

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
