"""The commands `prune` and `resume`: their options, and their progress on the terminal."""

import argparse
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from trim.cli.terminal import RunTerminal
from trim.methods.choices import (
    ALLOCATIONS,
    ALPHA_FITS,
    BUDGETS,
    LAYER_QUALITIES,
    ROW_QUALITIES,
    ROW_WEIGHTS,
    SCORES,
)
from trim.runs.folder import Run, runs_folder
from trim.runs.settings import PruneSettings
from trim.runs.summary import summary
from trim.runs.writer import new_run_path

_PRUNE = """\
Prune a whole model. Weights are read block by block, so a model larger than memory can be pruned; each block is on
disk as soon as it is done, so a run can be stopped at any time and gone on with.

The result is a run: a folder with the settings, what every row lost and why, and the masks."""

_EXAMPLES = """\
examples:
  a first look, a few minutes on two cores
    %(prog)s demo --target 0.7 --windows 16 --length 256 --out runs/first
  plain Wanda, to compare with
    %(prog)s demo --target 0.7 --allocation uniform --windows 16 --length 256
  as in the paper: 128 windows of 2,048 tokens of C4, OWL's layer budgets
    %(prog)s Qwen/Qwen2.5-3B --target 0.7 --corpus c4 --length 2048 --budget owl --owl-width 0.12
  the lowest loss that layers and rows can be balanced to, instead of TRIM
    %(prog)s demo --target 0.7 --allocation optimal --budget optimal
  the same, and the weights that stay changed so that they make up for the others
    %(prog)s demo --target 0.7 --allocation optimal --budget optimal --refit
  two zeros in every four weights
    %(prog)s demo --pattern 2:4 --allocation uniform
  the budgets of another run
    %(prog)s demo --target 0.6 --budget runs/first/budgets.json

sparsity means: --target is of the model (its chosen layers), a budget is of a layer, an allocation sets rows."""


def add_prune(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `prune` to the commands."""
    parser = commands.add_parser(
        "prune",
        help="prune a whole model",
        usage="%(prog)s MODEL --target T [--out DIR] [option ...]",
        description=_PRUNE,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help='"demo", a Hub id, a folder with safetensors, or a GGUF file')
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run folder (default: a new one in ./runs)"
    )
    parser.add_argument("--name", default="", help="what to call the run")
    method = parser.add_argument_group("method")
    option(method, "--target", float, "model sparsity, such as 0.7")
    option(method, "--allocation", str, "who sets the sparsity of each row", choices=tuple(ALLOCATIONS))
    option(
        method, "--budget", str, f"who sets the sparsity of each layer: {', '.join(BUDGETS)}, or a JSON file"
    )
    option(method, "--score", str, "importance of a weight", choices=SCORES)
    option(method, "--pattern", str, "n zeros in every m weights; sets the target itself", metavar="N:M")
    method.add_argument(
        "--recalculate-inputs",
        action="store_true",
        help="later layers of a block see what its earlier ones do after being pruned (about twice the time)",
    )
    method.add_argument(
        "--refit",
        action="store_true",
        help="change the weights that stay so that they make up for those that went (least squares on the text)",
    )
    option(
        method,
        "--layers",
        str,
        "names or shell patterns of the layers to prune",
        nargs="+",
        metavar="PATTERN",
    )
    text = parser.add_argument_group("calibration text")
    option(text, "--corpus", str, "demo, wikitext2, c4, or a .txt, .jsonl or .parquet file")
    option(text, "--windows", int, "how many windows")
    option(text, "--length", int, "tokens in a window")
    option(text, "--seed", int, "which windows, and which input vectors of them")
    option(text, "--vectors", int, "input vectors kept of each window", dest="vectors_per_sequence")
    add_search_options(parser.add_argument_group("TRIM's search"))
    budgets = parser.add_argument_group("budget methods")
    option(budgets, "--owl-width", float, "OWL's lambda")
    option(budgets, "--owl-multiple", float, "OWL's M: an outlier is above M times the mean score")
    option(budgets, "--alpha-width", float, "AlphaPruning's epsilon")
    option(budgets, "--alpha-fit", str, "how the tail of a spectrum is fitted", choices=ALPHA_FITS)
    optimal = parser.add_argument_group("optimal allocation and budgets")
    weights = (
        "what an error in a row's output counts for: its empirical Fisher sensitivity, or all rows alike"
    )
    option(optimal, "--row-weights", str, weights, choices=ROW_WEIGHTS)
    option(
        optimal,
        "--sensitivity-windows",
        int,
        "how many of the windows sensitivity and prices are measured on",
    )
    optimal.add_argument(
        "--second-pass",
        action="store_true",
        help="prune once, measure the sensitivity again in what is left, prune anew (twice the time; pays at 80%%)",
    )
    machine = parser.add_argument_group("machine")
    option(machine, "--device", str, "cpu, cuda or cuda:1 (default: a GPU where there is one)")
    option(
        machine, "--dtype", str, "float32, bfloat16 or float16 (default: float32 on the CPU, half on a GPU)"
    )
    option(machine, "--batch", int, "windows in one forward pass (default: chosen by itself)")
    _add_memory(machine)
    parser.set_defaults(work=_prune)


def add_resume(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `resume` to the commands."""
    parser = commands.add_parser(
        "resume",
        help="go on with a run that was stopped",
        description="Go on with a run at the first block that is not whole. It ends bit for bit as if it had not been "
        "stopped; where the model, the device or a library has changed since, it is refused.",
        epilog="example: %(prog)s runs/first",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run folder")
    parser.add_argument(
        "--repair", action="store_true", help="make damaged blocks again, and all behind them"
    )
    _add_memory(parser)
    parser.set_defaults(work=_resume)


def add_search_options(group: argparse._ArgumentGroup) -> None:
    """The settings of TRIM's search."""
    option(group, "--learning-rates", float, "tried in this order", nargs="+", metavar="RATE")
    option(
        group,
        "--negative-learning-rates",
        float,
        "if none of those helps; none: forbidden",
        nargs="*",
        metavar="RATE",
    )
    option(group, "--iterations", int, "updates per learning rate")
    option(group, "--layer-quality", str, f"decides what is kept: {', '.join(LAYER_QUALITIES)}")
    option(group, "--row-quality", str, f"drives the updates: {', '.join(ROW_QUALITIES)}")
    cap = "the most that a row may lose (default: 0.95, and 0.99 where anything is optimal)"
    option(group, "--max-row-sparsity", float, cap, metavar="CAP")


def option(
    group: argparse._ArgumentGroup,
    flag: str,
    kind: Callable[[str], object],
    help: str,
    *,
    dest: str | None = None,
    nargs: str | None = None,
    choices: Iterable[str] | None = None,
    metavar: str | None = None,
) -> None:
    """An option whose default is that of `PruneSettings`."""
    dest = dest or flag.strip("-").replace("-", "_")
    default = getattr(PruneSettings, dest)
    if default is not None:
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        help += f" (default: {shown})"
    if choices is None and nargs is None:
        metavar = metavar or flag.rpartition("-")[2].upper()
    group.add_argument(
        flag,
        type=kind,
        dest=dest,
        default=default,
        help=help.replace("%", "%%"),
        nargs=nargs,
        choices=choices,
        metavar=metavar,
    )


def _add_memory(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--activation-memory",
        type=float,
        metavar="GB",
        help="the most that activations may take of memory before they go to disk (default: half of what is free)",
    )


def _prune(chosen: argparse.Namespace) -> None:
    from trim.pruning.prune import prune

    fields = {key: getattr(chosen, key) for key in PruneSettings.__dataclass_fields__}
    settings = PruneSettings(**fields)
    chosen.folder = chosen.out or new_run_path(runs_folder(), chosen.name or settings.name)
    del fields["model"]
    run = prune(
        chosen.model,
        chosen.folder,
        name=chosen.name,
        activation_bytes=_bytes(chosen),
        progress=RunTerminal(),
        **fields,
    )
    _tell_result(run)


def _resume(chosen: argparse.Namespace) -> None:
    from trim.pruning.prune import resume

    progress = RunTerminal()
    run = resume(chosen.folder, activation_bytes=_bytes(chosen), repair=chosen.repair, progress=progress)
    if not progress.began:
        print(f"{chosen.folder} is complete already")
    _tell_result(run)


def _bytes(chosen: argparse.Namespace) -> int | None:
    return None if chosen.activation_memory is None else int(chosen.activation_memory * 1e9)


def _tell_result(run: Run) -> None:
    path = shlex.quote(str(run.path))
    print(summary(run))
    print(f"The run is in {path}. A model for transformers: python -m trim export {path} OUT")
