"""The command line: python -m trim COMMAND.

Exit codes: 0 for success, 2 for an error that the user can fix (one paragraph on stderr), 130 after an interrupt; a
run can then be resumed.
"""

import argparse
import contextlib
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trim import __version__
from trim.cli.diagnose import add_diagnose
from trim.cli.evaluate import add_evaluate, add_generate
from trim.cli.prune import add_prune, add_resume
from trim.cli.recover import add_recover
from trim.cli.runs import add_apply, add_cache, add_export, add_inspect
from trim.cli.sweep import add_sweep
from trim.cli.xray import add_xray
from trim.errors import CacheWarning, TrimError
from trim.runs.recovery import is_recovery

_DESCRIPTION = """\
Row-wise pruning of language models: TRIM (arXiv 2505.16743), Wanda and others, for whole models.

  %(prog)s prune demo --target 0.7 --windows 16 --length 256 --out runs/first
  %(prog)s inspect runs/first
  %(prog)s export runs/first pruned        (a folder that plain transformers loads)

Each command explains itself: %(prog)s prune --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    parser = make_parser()
    chosen = parser.parse_args(arguments)
    try:
        with _terminated_like_interrupted(), _plain_warnings():
            chosen.work(chosen)
    except TrimError as error:
        print(f"trim: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(_how_to_resume(chosen), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has exited, as `head` does
        sys.stderr.close()
        return 0
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Define all commands and their help, with the program's name as it was started."""
    started = "trim" if Path(sys.argv[0]).stem == "trim" else "python -m trim"
    parser = argparse.ArgumentParser(
        prog=started, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"TRIM Lab {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_prune(commands)
    add_resume(commands)
    add_recover(commands)
    add_apply(commands)
    add_export(commands)
    add_inspect(commands)
    add_xray(commands)
    add_evaluate(commands)
    add_generate(commands)
    add_diagnose(commands)
    add_sweep(commands)
    add_cache(commands)
    return parser


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Treat SIGTERM, from a job queue or a page's cancel button, like Ctrl-C."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show the warnings of TRIM Lab as lines without a place in the code; one that begins "trim: " is an error."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, CacheWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            before(message, category, *place, **more)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _how_to_resume(chosen: argparse.Namespace) -> str:
    """Return what to print after an interrupt."""
    folder = getattr(chosen, "folder", None)
    if folder is not None and (folder / "sweep.json").exists():
        return f"Stopped; what was done is kept. Resume: python -m trim sweep --resume {shlex.quote(str(folder))}"
    if folder is not None and is_recovery(folder):
        return f"Stopped; what was trained is kept. Resume: python -m trim resume {shlex.quote(str(folder))}"
    if folder is None or not (folder / "config.json").exists():
        return "Stopped."
    return f"Stopped; every block that was done is kept. Resume: python -m trim resume {shlex.quote(str(folder))}"
