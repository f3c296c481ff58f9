"""Compile every function once, so that no first use waits for it: python -m trim.compiled.

Compiled functions are kept in the virtual environment, if there is one, so that emptying the cache leaves them.
"""

import contextlib
import importlib
import pkgutil

import trim.compiled
from trim.compiled.compiler import environment_folder


def compile_everything() -> None:
    """Import every module of this package."""
    for module in pkgutil.iter_modules(trim.compiled.__path__):
        if module.name != "__main__":
            importlib.import_module(f"trim.compiled.{module.name}")


if __name__ == "__main__":
    if (folder := environment_folder()) is not None:
        with contextlib.suppress(OSError):  # in another user's environment: TRIM Lab's cache is used instead
            folder.mkdir(parents=True, exist_ok=True)
    compile_everything()
