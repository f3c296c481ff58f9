"""Uploaded texts, stored in the cache in a folder that is named by their content."""

import hashlib
import re
from pathlib import Path

from app.services.server.access import SEMINAR
from trim.cache import cache_folder
from trim.files import new_file

MAX_STEM = 60  # letters of a file's name, of up to four bytes each


def store_text(name: str, content: bytes) -> Path:
    """Store an uploaded file, once for equal content and name; runs and messages show the name, without odd letters."""
    SEMINAR.require("Uploading a text")
    digest = hashlib.sha256(content).hexdigest()[:32]
    file_name = Path(name)
    stem = re.sub(r"[^\w -]+", "_", file_name.stem)[:MAX_STEM] or "text"
    path = cache_folder() / "texts" / digest / f"{stem}{file_name.suffix.lower()}"
    if not path.exists():
        with new_file(path) as file:
            file.write(content)
    return path
