"""The commands that reproduce a run or a recovery."""

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
    """Return the arguments of `python -m trim prune`, without --out and without defaults."""
    # A name that begins with a dash would be read as an option.
    return [
        f"./{settings.model}" if settings.model.startswith("-") else settings.model,
        *_flags(settings, options(PruneSettings)),
    ]


def _flags(settings: PruneSettings | RecoverSettings, all_options: Mapping[str, Option]) -> list[str]:
    chosen: list[str] = []
    for name, each in all_options.items():
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
    lines = [_line("prune", *arguments(settings), "--out", out)]
    if measure:
        lines.append(_line("evaluate", out, "--windows", str(measure[0]), "--length", str(measure[1])))
    return "\n".join(lines)


def _line(*arguments: str) -> str:
    return "python -m trim " + shlex.join(arguments)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def text_options(entry: PerplexityEntry) -> list[str]:
    """Return the options of `python -m trim evaluate` that measure on the text of an earlier measurement."""
    text = ["--corpus", entry["corpus"], "--windows", str(entry["windows"]), "--length", str(entry["length"])]
    text += ["--whole-text"] if entry.get("whole") else []
    return text + (["--no-bos"] if entry.get("bos") is False else [])


def recover_again(recovery: Recovery) -> str:
    """Return the commands that make a recovery again and measure it."""
    record = recovery.record
    of_run = [f"runs/{Path(record.sparse).name}"]
    models = of_run if record.run is not None else [record.sparse, "--parent", record.parent]
    command = ["recover", *models, *_flags(record.request, options(RecoverSettings))]
    return _again(recovery, command, given=record.request.corpus == "tokens")


def reproduce(run: Run) -> str:
    """Return the commands that make a run again and measure it, without default values."""
    return _again(run, ["prune", *arguments(run.request)], given=run.text.given)


def _again(stored: Run | Recovery, command: list[str], *, given: bool) -> str:
    """Return a command and those that measure its result; `given`: its text was passed as tokens."""
    out = f"runs/{stored.id}-again"
    note = f"# with the same tokens, passed in Python: trim.{command[0]}(…, tokens=…)"
    lines = [note] if given else []
    lines.append(_line(*command, "--out", out))
    lines += [_line("evaluate", out, *text_options(each)) for each in stored.metrics.get("perplexities", [])]
    return "\n".join(lines)
