"""Compile every function once, so that no first use waits for it: python -m trim.compiled."""

import importlib
import pkgutil

import trim.compiled

for module in pkgutil.iter_modules(trim.compiled.__path__):
    if module.name != "__main__":
        importlib.import_module(f"trim.compiled.{module.name}")
