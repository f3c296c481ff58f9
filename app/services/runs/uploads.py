"""Texts that readers bring: kept in the cache under a name made of their content."""

import hashlib
from pathlib import Path

from app.services.server.access import SEMINAR
from trim.cache import cache_folder
from trim.files import new_file


def store_text(name: str, content: bytes) -> Path:
    """Keep a brought file; the same content is kept once. Of its name only the ending is used."""
    SEMINAR.require("Bringing a text")
    digest = hashlib.sha256(content).hexdigest()[:32]
    path = cache_folder() / "texts" / digest / f"text{Path(name).suffix.lower()}"
    if not path.exists():
        with new_file(path) as file:
            file.write(content)
    return path
