"""The command `sweep`: its options, and its progress and table on the terminal."""

import argparse
import shlex
from pathlib import Path

from trim.cli.evaluate import add_text_options, chosen_texts
from trim.cli.options import (
    Commands,
    add_as_published,
    add_grid,
    add_options,
    chosen_fields,
    chosen_grid,
    print_published,
    published_fields,
)
from trim.cli.terminal import SweepTerminal
from trim.errors import RunError, SettingsError
from trim.names import counted
from trim.runs.listing import new_run_path, runs_folder
from trim.runs.options import options
from trim.runs.settings import MACHINE, PruneSettings
from trim.sweeps.folder import Sweep, create_sweep, open_sweep
from trim.sweeps.results import results_markdown
from trim.sweeps.settings import GRID_OPTIONS, SHARED_OPTIONS, SweepSettings

_SWEEP = """\
Prune one model in many ways and measure the perplexity of each: all combinations of the values given. Combinations that
cannot differ are made once. The model and the texts are read, and budgets measured, once for all of them.

The result is a folder: each cell is a run (without masks, unless they are kept), results.md is the table, results.csv
its numbers, results.json perplexity against sparsity. A sweep can be stopped at any time and resumed."""

_EXAMPLES = """\
examples:
  Wanda against TRIM at three sparsities on the demo model
    %(prog)s demo --targets 0.5 0.6 0.7 --allocations uniform trim --windows 16 --length 256 \\
        --evaluation-windows 32 --out runs/first-sweep
  as in the papers: calibrated on C4, measured on WikiText-2, three seeds
    %(prog)s Qwen/Qwen2.5-3B --targets 0.7 0.75 0.8 --budgets uniform owl alphapruning --seeds 0 1 2 \\
        --as-published --evaluation-corpus wikitext2
  resume a sweep that was stopped
    %(prog)s --resume runs/first-sweep
  on every GPU of this machine (needs: pip install 'trim-lab[ray]')
    %(prog)s demo --targets 0.6 0.7 --ray

on several machines: start Ray there (ray start), give --ray auto, and keep model, texts and --out on a shared disk."""


_TEXTS = ("evaluation_corpus", "evaluation_windows", "evaluation_length", "whole_text")


def add_sweep(commands: Commands) -> None:
    """Add `sweep` to the commands."""
    parser = commands.add_parser(
        "sweep",
        help="prune a model in many ways and compare perplexities",
        usage="%(prog)s MODEL --targets T [T ...] [--out DIR] [option ...]\n       %(prog)s --resume DIR",
        description=_SWEEP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", help=options(PruneSettings)["model"].help)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the sweep's folder (default: a new one in ./runs)"
    )
    parser.add_argument("--name", default="", help="the sweep's title")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="resume this sweep, as it was begun")
    add_as_published(parser)
    grid = parser.add_argument_group("what varies: one or more values each")
    add_grid(grid, GRID_OPTIONS)
    add_text_options(parser.add_argument_group("evaluation texts"), prefix="evaluation-")
    machine = add_options(parser, SHARED_OPTIONS)[MACHINE]
    machine.add_argument(
        "--keep-masks", action="store_true", help="so that cells can be exported; ten times the disk"
    )
    machine.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="many cells at once: on this machine, or on the Ray cluster at an address (auto: this machine's)",
    )
    parser.set_defaults(work=_sweep)


def _sweep(chosen: argparse.Namespace) -> None:
    from trim.sweeps.run import run_sweep

    sweep = _begin(chosen)
    chosen.folder = sweep.path
    terminal = SweepTerminal(sweep)
    run_sweep(sweep, ray=chosen.ray, progress=terminal.progress, listener=terminal)
    print(results_markdown(sweep, sweep.outcomes()))
    print(f"The sweep is in {sweep.path}: results.md, results.csv, results.json, and a run for each cell.")
    if terminal.failed:
        raise RunError(
            f"{terminal.failed} of {counted(len(sweep.cells), 'cell')} could not be made, the table says why; to "
            f"try again: python -m trim sweep --resume {shlex.quote(str(sweep.path))}"
        )


def _begin(chosen: argparse.Namespace) -> Sweep:
    """Create the sweep that the options describe, or open the one to resume."""
    from trim.calibration.corpora import require_text, require_windows
    from trim.methods.budgets import read_budget_file
    from trim.models.source import locate

    if chosen.resume is not None:
        others = [
            getattr(chosen, name) for name in ("model", "out", "name", "as_published", "keep_masks", *_TEXTS)
        ]
        if any(others) or chosen_grid(chosen) or chosen_fields(chosen, SHARED_OPTIONS):
            raise SettingsError(
                "--resume resumes a sweep as it was begun; leave out all other options but --ray"
            )
        return open_sweep(chosen.resume)
    if chosen.model is None:
        raise SettingsError("name the model to prune, or the sweep to resume (--resume DIR)")
    grid, shared = chosen_grid(chosen), chosen_fields(chosen, SHARED_OPTIONS)
    if chosen.as_published:
        published = published_fields({*grid, *shared})
        print_published(published)
        grid |= {name: (value,) for name, value in published.items() if name in GRID_OPTIONS}
        shared |= {name: value for name, value in published.items() if name in SHARED_OPTIONS}
    if chosen.evaluation_corpus is None:
        chosen.evaluation_corpus = [shared.get("corpus", PruneSettings.corpus)]
    texts = chosen_texts(chosen, bos=bool(shared.get("bos", PruneSettings.bos)), prefix="evaluation-")
    settings = SweepSettings(chosen.model, grid, shared, texts)
    locate(settings.model)
    first = settings.cells[0].settings  # cells share the text and the number of its windows
    for text in (first.corpus, *(each.corpus for each in texts)):
        require_text(text)
    require_windows(first.windows, first.length)
    for budget in {cell.settings.budget for cell in settings.cells}:
        if budget.endswith(".json"):
            read_budget_file(Path(budget))
    path = chosen.out or new_run_path(runs_folder(), chosen.name or f"sweep {Path(chosen.model).name}")
    return create_sweep(path, settings, name=chosen.name, keep_masks=chosen.keep_masks)
