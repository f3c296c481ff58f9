"""The commands `prune` and `resume`: their options, and their progress on the terminal."""

import argparse
import math
import shlex
from pathlib import Path

from trim.cli.options import (
    Commands,
    add_as_published,
    add_options,
    chosen_fields,
    print_published,
    published_fields,
    refuse,
)
from trim.cli.recover import RecoveryTerminal, print_recovery
from trim.cli.terminal import RunTerminal
from trim.runs.folder import Run
from trim.runs.listing import new_run_path, runs_folder
from trim.runs.options import make_settings, options
from trim.runs.recovery import is_recovery
from trim.runs.settings import MACHINE, PruneSettings
from trim.runs.summary import summary

OPTIONS = tuple(name for name in options(PruneSettings) if name != "model")
_PRUNE = """\
Prune a whole model. Weights are read block by block, so a model larger than memory can be pruned; each block is on
disk as soon as it is done, so a run can be stopped at any time and resumed.

The result is a run: a folder with the settings, the results of each layer and row, and the masks."""

_EXAMPLES = """\
examples:
  a first look, a few minutes on two cores
    %(prog)s demo --target 0.7 --windows 16 --length 256 --out runs/first
  plain Wanda, to compare with
    %(prog)s demo --target 0.7 --allocation uniform --windows 16 --length 256
  the run of TRIM's authors, in every option
    %(prog)s Qwen/Qwen2.5-3B --target 0.7 --as-published
  the same, with OWL's layer budgets as they chose them for this model
    %(prog)s Qwen/Qwen2.5-3B --target 0.7 --as-published --budget owl --owl-width 0.12 --owl-multiple 5
  the least total error of layers and rows, instead of TRIM
    %(prog)s demo --target 0.7 --allocation optimal --budget optimal
  the same, and the kept weights changed so that they make up for the pruned ones
    %(prog)s demo --target 0.7 --allocation optimal --budget optimal --refit
  two zeros in every four weights
    %(prog)s demo --pattern 2:4 --allocation uniform
  the budgets of another run
    %(prog)s demo --target 0.6 --budget runs/first/budgets.json

sparsity means: --target is of the model (its chosen layers), a budget is of a layer, an allocation sets rows."""


def add_prune(commands: Commands) -> None:
    """Add `prune` to the commands."""
    parser = commands.add_parser(
        "prune",
        help="prune a whole model",
        usage="%(prog)s MODEL --target T [--out DIR] [option ...]",
        description=_PRUNE,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help=options(PruneSettings)["model"].help)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run folder (default: a new one in ./runs)"
    )
    parser.add_argument("--name", default="", help="the run's title")
    add_as_published(parser)
    groups = add_options(parser, OPTIONS)
    _add_memory(groups[MACHINE])
    parser.set_defaults(work=_prune)


def add_resume(commands: Commands) -> None:
    """Add `resume` to the commands."""
    parser = commands.add_parser(
        "resume",
        help="resume a run or a recovery that was stopped",
        description="Resume a run at the first block that is not complete. It ends bit for bit as if it had not been "
        "stopped; where the model, the device or a library has changed since, it is refused. A recovery resumes where "
        "it was stopped, or at most a minute before.",
        epilog="example: %(prog)s runs/first",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run folder")
    parser.add_argument("--repair", action="store_true", help="make damaged blocks again, and all later ones")
    _add_memory(parser)
    parser.set_defaults(work=_resume)


def _add_memory(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--activation-memory",
        type=_gigabytes,
        metavar="GB",
        help="the most that activations may take of memory before they go to disk (default: half of what is free)",
    )


def _gigabytes(text: str) -> int:
    """Read an amount of memory in GB, and return it in bytes."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(f"give a number of GB, 0 or more, not {text!r}")
    return int(amount * 1e9)


def _prune(chosen: argparse.Namespace) -> None:
    from trim.pruning.prune import prune

    given = chosen_fields(chosen, OPTIONS)
    published = published_fields(given) if chosen.as_published else {}
    settings = make_settings(PruneSettings, {"model": chosen.model, **published, **given})
    if published:
        print_published(published)
    chosen.folder = chosen.out or new_run_path(runs_folder(), chosen.name or settings.name)
    terminal = RunTerminal()
    run = prune(
        chosen.model,
        chosen.folder,
        settings,
        name=chosen.name,
        activation_bytes=chosen.activation_memory,
        progress=terminal.progress,
        listener=terminal,
    )
    _print_result(run)


def _resume(chosen: argparse.Namespace) -> None:
    if is_recovery(chosen.folder):
        refuse(
            chosen,
            ["repair", "activation_memory"],
            f"is an option of runs, and {chosen.folder} is a recovery; leave it out",
        )
        _resume_recovery(chosen.folder)
        return
    from trim.pruning.prune import resume

    terminal = RunTerminal()
    run = resume(
        chosen.folder,
        activation_bytes=chosen.activation_memory,
        repair=chosen.repair,
        progress=terminal.progress,
        listener=terminal,
    )
    if not terminal.began:
        print(f"{chosen.folder} is complete already")
    _print_result(run)


def _resume_recovery(folder: Path) -> None:
    from trim.recovery.recover import resume_recovery

    terminal = RecoveryTerminal()
    recovery = resume_recovery(folder, progress=terminal.progress, listener=terminal)
    if not terminal.began:
        print(f"{folder} is complete already")
    print_recovery(recovery)


def _print_result(run: Run) -> None:
    path = shlex.quote(str(run.path))
    print(summary(run))
    print(f"The run is in {path}. A model for transformers: python -m trim export {path} OUT")
