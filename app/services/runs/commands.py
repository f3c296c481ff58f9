"""A pruning as the command line takes it."""

import dataclasses
import shlex

from trim.runs.folder import Run
from trim.runs.settings import PruneSettings

_FLAGS = {"vectors_per_sequence": "vectors"}


def arguments(settings: PruneSettings) -> list[str]:
    """What follows `python -m trim prune`, without --out: the model and every setting that is not the default."""
    # What begins with a dash would be read as an option.
    chosen = [f"./{settings.model}" if settings.model.startswith("-") else settings.model]
    for field in dataclasses.fields(PruneSettings):
        value = getattr(settings, field.name)
        if field.name == "model" or value == field.default:
            continue
        flag = "--" + _FLAGS.get(field.name, field.name).replace("_", "-")
        if value is True:
            chosen.append(flag)
        elif isinstance(value, tuple):
            chosen += [flag, *map(_number, value)]
        else:
            text = _number(value)
            chosen += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return chosen


def in_words(settings: PruneSettings, *, measure: tuple[int, int] | None, out: str) -> str:
    """The commands for a terminal."""
    lines = ["python -m trim prune " + shlex.join([*arguments(settings), "--out", out])]
    if measure:
        lines.append(f"python -m trim evaluate {out} --windows {measure[0]} --length {measure[1]}")
    return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def reproduce(run: Run) -> str:
    """For a terminal: prune, and measure what was measured. Values that are the default are left out."""
    out = f"runs/{run.id}-again"
    lines = ["python -m trim prune " + shlex.join([*arguments(run.request), "--out", out])]
    if run.text.given:
        lines.insert(0, "# with the text that was handed over as tokens: trim.prune(…, tokens=…)")
    for entry in run.metrics.get("perplexities", []):
        text = ["--corpus", str(entry.get("corpus")), "--windows", str(entry.get("windows"))]
        text += ["--length", str(entry.get("length")), *(["--whole-text"] if entry.get("whole") else [])]
        lines.append(shlex.join(["python", "-m", "trim", "evaluate", out, *text]))
    return "\n".join(lines)
