"""Uploaded texts, stored in the cache under a name made from their content."""

import hashlib
from pathlib import Path

from app.services.server.access import SEMINAR
from trim.cache import cache_folder
from trim.files import new_file


def store_text(name: str, content: bytes) -> Path:
    """Store an uploaded file, once for equal content; only the suffix of its name is used."""
    SEMINAR.require("Uploading a text")
    digest = hashlib.sha256(content).hexdigest()[:32]
    path = cache_folder() / "texts" / digest / f"text{Path(name).suffix.lower()}"
    if not path.exists():
        with new_file(path) as file:
            file.write(content)
    return path
