"""Replace attributes temporarily."""

import contextlib
from collections.abc import Iterator

_MISSING = object()


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Give one object, and no other of its class, its own attribute inside the `with` block, such as a method."""
    attributes = vars(owner)
    before = attributes.get(name, _MISSING)
    attributes[name] = value
    try:
        yield
    finally:
        if before is _MISSING:
            attributes.pop(name, None)
        else:
            attributes[name] = before
