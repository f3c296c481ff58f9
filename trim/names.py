"""Helping with names that match nothing."""

import difflib
from collections.abc import Iterable


def near_names(name: str, known: Iterable[str], most: int = 5) -> str:
    """The known names nearest to `name`, as a list in words."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.4) or known[:most]
    return ", ".join(near) if near else "none"
