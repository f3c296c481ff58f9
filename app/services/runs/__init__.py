"""Stored runs: list, read, import and describe them."""
