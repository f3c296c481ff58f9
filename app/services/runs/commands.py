"""A pruning or a recovery as the command line takes it."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from trim.runs.folder import Run
from trim.runs.options import Option, options
from trim.runs.recover_settings import RecoverSettings
from trim.runs.recovery import Recovery
from trim.runs.settings import PruneSettings
from trim.runs.shapes import PerplexityEntry


def arguments(settings: PruneSettings) -> list[str]:
    """Return the arguments of `python -m trim prune`, without --out: the model and settings other than the defaults."""
    # What begins with a dash would be read as an option.
    return [
        f"./{settings.model}" if settings.model.startswith("-") else settings.model,
        *_flags(settings, options(PruneSettings)),
    ]


def _flags(settings: PruneSettings | RecoverSettings, known: Mapping[str, Option]) -> list[str]:
    chosen: list[str] = []
    for name, each in known.items():
        value = getattr(settings, name)
        if name == "model" or value == each.default:
            continue
        if isinstance(value, bool):
            chosen.append(each.flag)
        elif isinstance(value, tuple):
            chosen += [each.flag, *map(_number, value)]
        else:
            text = _number(value)
            chosen += [f"{each.flag}={text}"] if text.startswith("-") else [each.flag, text]
    return chosen


def format_command(settings: PruneSettings, *, measure: tuple[int, int] | None, out: str) -> str:
    """Return the commands for a terminal."""
    lines = ["python -m trim prune " + shlex.join([*arguments(settings), "--out", out])]
    if measure:
        lines.append(f"python -m trim evaluate {out} --windows {measure[0]} --length {measure[1]}")
    return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def text_options(entry: PerplexityEntry) -> list[str]:
    """Return the options of `python -m trim evaluate` that measure on the text of an earlier measurement."""
    text = ["--corpus", entry["corpus"], "--windows", str(entry["windows"]), "--length", str(entry["length"])]
    text += ["--whole-text"] if entry.get("whole") else []
    return text + (["--no-bos"] if entry.get("bos") is False else [])


def recover_again(recovery: Recovery) -> str:
    """Return the commands that recover and measure as a recovery was made."""
    record, out = recovery.record, f"runs/{recovery.id}-again"
    of_run = [f"runs/{Path(record.sparse).name}"]
    models = of_run if record.run is not None else [record.sparse, "--parent", record.parent]
    lines = [
        shlex.join(
            [
                "python",
                "-m",
                "trim",
                "recover",
                *models,
                *_flags(record.request, options(RecoverSettings)),
                "--out",
                out,
            ]
        )
    ]
    if record.request.corpus == "tokens":
        lines.insert(0, "# with the text that was handed over as tokens: trim.recover(…, tokens=…)")
    for entry in recovery.metrics.get("perplexities", []):
        lines.append(shlex.join(["python", "-m", "trim", "evaluate", out, *text_options(entry)]))
    return "\n".join(lines)


def reproduce(run: Run) -> str:
    """Return the commands that prune and measure as the run did, without values that are the default."""
    out = f"runs/{run.id}-again"
    lines = ["python -m trim prune " + shlex.join([*arguments(run.request), "--out", out])]
    if run.text.given:
        lines.insert(0, "# with the text that was handed over as tokens: trim.prune(…, tokens=…)")
    for entry in run.metrics.get("perplexities", []):
        lines.append(shlex.join(["python", "-m", "trim", "evaluate", out, *text_options(entry)]))
    return "\n".join(lines)
