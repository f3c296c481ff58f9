"""Names, sizes and paths as users give them and as messages show them."""

import difflib
from collections.abc import Iterable
from pathlib import Path


def near_names(name: str, known: Iterable[str], most: int = 5) -> str:
    """The known names nearest to `name`, as a list in words."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.4) or known[:most]
    return ", ".join(near) if near else "none"


def one_line(text: str, most: int = 80) -> str:
    """Text from outside as one short line of printable characters; what is cut off shows as an ellipsis."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def bytes_in_words(size_bytes: float) -> str:
    """A size as people say it, in decimal units: "988 MB", "1.2 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} GB"


def local_path(text: str) -> Path | None:
    """The file or folder of that name; None where there is none, or where nothing can have such a name."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long a name, a NUL in it, the home of nobody
        return None
