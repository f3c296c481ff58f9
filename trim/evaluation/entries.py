"""Store perplexities in files, find them there, and format them for messages."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from trim.evaluation.settings import EvaluationText
from trim.names import counted
from trim.runs.fields import number_to_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

E = TypeVar("E", bound=Mapping[str, object])


def find_entry(entries: Sequence[E], text: EvaluationText) -> E | None:
    """Return the last stored perplexity on a text; None if there is none.

    Args:
        entries: "perplexities" of a run's metrics.
        text: the text; None for windows or length matches any value.
    """
    wanted = {key: value for key, value in dataclasses.asdict(text).items() if value is not None}
    bos = wanted.pop("bos")
    matching = [
        entry
        for entry in entries
        if all(entry.get(key) == value for key, value in wanted.items()) and entry.get("bos") in (None, bos)
    ]
    return matching[-1] if matching else None


def format_bos(bos: bool | None) -> str:
    """Describe how windows begin; "" if the tokenizer adds no beginning-of-text token."""
    return {None: "", True: ", each after BOS", False: ", without BOS in each"}[bos]


def format_windows(corpus: str, windows: int, length: int, bos: bool | None = None) -> str:
    """Describe the windows of a text."""
    return f"{corpus}, {counted(windows, 'window')} of {length:,} tokens{format_bos(bos)}"


def numbers_to_json(numbers: "DataclassInstance") -> dict:
    """Convert the numbers of a dataclass and of its dictionaries for JSON."""

    def convert(value: object) -> object:
        if isinstance(value, Mapping):
            return {name: convert(each) for name, each in value.items()}
        return number_to_json(value) if isinstance(value, float) else value

    return {field.name: convert(getattr(numbers, field.name)) for field in dataclasses.fields(numbers)}


def format_perplexity(value: float) -> str:
    """Format a perplexity: "20.9", "651", "72,850"; "NaN" and "infinite" as such."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite"
    if value >= 1e7:
        return f"{value:.2e}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
