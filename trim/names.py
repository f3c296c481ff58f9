"""Names, sizes and paths as users give them and as messages show them."""

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from trim.errors import LayerNotFoundError

MODELS = ("demo",)  # the models with a name; others are files or on the Hub
# The texts with a name, and their titles; "demo" comes with the packages.
CORPORA = {
    "demo": "State of the Union addresses, 1990 to 2019 (demo)",
    "wikitext2": "WikiText-2, raw (from the Hub, 7 MB)",
    "c4": "C4, one shard (from the Hub, 320 MB)",
}

_EXPERT = re.compile(r"(.*\b(?:experts|input_linear|output_linear)\.)(\d+)(|\..*)")

# In the folder of a recovery: its record, and the folder of the recovered model.
RECOVERY_FILE, RECOVERED_FOLDER = "recovery.json", "model"


def closest_matches(name: str, names: Iterable[str]) -> str:
    """Return the five names closest to `name`, with commas between them; "none" if there are no names."""
    names = list(names)
    return ", ".join(difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:5]) or "none"


def one_line(text: str, limit: int = 80) -> str:
    """Format text from outside as one short line of printable characters; an ellipsis marks what is cut off."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def counted(number: int, noun: str) -> str:
    """Format a number of things: "1 window", "1,024 windows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_bytes(size_bytes: float) -> str:
    """Format a size in decimal units: "988 MB", "1.2 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} GB"


def local_path(text: str) -> Path | None:
    """Return the file or folder of that name; None where there is none, or the name is impossible."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long a name, a NUL in it, the home of an unknown user
        return None


def absolute(source: object, reserved: Collection[str] = ()) -> str:
    """Make a path absolute, so that it is valid in any working directory.

    Args:
        source: a path, or a name such as a Hub id.
        reserved: names that mean the same everywhere, even where a file has that name.
    """
    text = str(source)
    path = None if text in reserved else local_path(text)
    return text if path is None else str(path.resolve())


def text_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Format rows as a table with their keys as titles; the first column is left-aligned, the others right-aligned."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)] if rows else []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    ]


def block_index(layer: str) -> int:
    """Return the index of a layer's block: 15 for "15.mlp.gate_proj"."""
    return int(layer.partition(".")[0])


def path_in_block(layer: str) -> str:
    """Return a layer's path in its block: "mlp.gate_proj" of "15.mlp.gate_proj"."""
    return layer.partition(".")[2]


def experts_of(layer: str, names: Iterable[str]) -> list[str]:
    """Return an expert's layer and the same layer of the other experts of its block, in the model's order.

    Example:
        experts_of("12.mlp.experts.37.up_proj", run.layers)  # 12.mlp.experts.0.up_proj and so on

    Args:
        layer: its name; the result is empty if it is not an expert's.
        names: all layers.
    """
    match = _EXPERT.fullmatch(layer)
    if match is None:
        return []
    return [
        name for name in names if (each := _EXPERT.fullmatch(name)) and each.group(1, 3) == match.group(1, 3)
    ]


def expert_number(layer: str) -> str:
    """Return the number of a layer's expert: "37" for "12.mlp.experts.37.up_proj", "" for layers of no expert."""
    match = _EXPERT.fullmatch(layer)
    return "" if match is None else match[2]


def every_expert(layer: str) -> str:
    """Return the name of a layer of all experts of a block, "12.mlp.experts.*.up_proj"; "": it is not an expert's."""
    number = expert_number(layer)
    return re.sub(rf"\.{number}(?=\.|$)", ".*", layer) if number else ""


def match_layers(
    patterns: Iterable[str],
    names: Iterable[str],
    problem: str,
    excluded: Collection[str] = (),
) -> dict[str, list[str]]:
    """Match shell patterns ("15.*", "*.q_proj") with the names of layers.

    Args:
        patterns: names or shell patterns.
        names: all layers, in the model's order.
        problem: the beginning of the error message, before the pattern.
        excluded: layers that a pattern with a star at its end does not match, unless it would match nothing else.

    Returns:
        The names that each pattern matches, in the model's order.

    Raises:
        LayerNotFoundError: a pattern matches nothing; the closest names are listed.
    """
    names = list(names)
    matches = {}
    for pattern in patterns:
        matches[pattern] = fnmatch.filter(names, pattern)
        if pattern.endswith("*"):
            matches[pattern] = [name for name in matches[pattern] if name not in excluded] or matches[pattern]
        if not matches[pattern]:
            raise LayerNotFoundError(
                f"{problem} {pattern!r}; closest names: {closest_matches(pattern, names)}"
            )
    return matches


def select_layers(
    patterns: Iterable[str],
    names: Iterable[str],
    problem: str = "the run has pruned no layer that matches",
    excluded: Collection[str] = (),
) -> list[str]:
    """List the layers that match any of some patterns, each once, in the model's order.

    The arguments and errors are those of `match_layers`.
    """
    names = list(names)
    matching = {name for each in match_layers(patterns, names, problem, excluded).values() for name in each}
    return [name for name in names if name in matching]
