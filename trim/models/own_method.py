"""Give one module a method of its own for a while."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def own_method(part: object, name: str, method: Callable[..., object]) -> Iterator[None]:
    """Let a module, and no other of its class, call `method` by this name inside the `with` block."""
    vars(part)[name] = method
    try:
        yield
    finally:
        vars(part).pop(name, None)
