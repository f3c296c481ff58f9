"""Bounded memories: what was asked for last stays, and its maker is not asked again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def remembered(known: OrderedDict[K, T], key: K, make: Callable[[], T], most: int) -> T:
    """What is known under the key, or is made now; the `most` asked for last stay known. The caller holds the lock."""
    if key not in known:
        known[key] = make()
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)
    return known[key]
