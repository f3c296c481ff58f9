"""Replace a method of one module temporarily."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def own_method(part: object, name: str, method: Callable[..., object]) -> Iterator[None]:
    """Replace a method of one module, and of no other of its class, inside the `with` block."""
    vars(part)[name] = method
    try:
        yield
    finally:
        vars(part).pop(name, None)
