"""The command `sweep`: its options, and its progress and table on the terminal."""

import argparse
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from trim.cli.evaluate import add_text_options, texts_of
from trim.cli.prune import add_search_options, option
from trim.cli.terminal import SweepTerminal
from trim.errors import RunError, SettingsError
from trim.methods.choices import ALLOCATIONS, ALPHA_FITS, BUDGETS, ROW_WEIGHTS, SCORES
from trim.runs.folder import runs_folder
from trim.runs.writer import new_run_path
from trim.sweeps.folder import Sweep, create_sweep, open_sweep
from trim.sweeps.results import results_markdown
from trim.sweeps.settings import SHARED, SweepSettings

_SWEEP = """\
Prune one model in many ways and measure the perplexity of each: all combinations of the values given. Combinations that
cannot differ are made once; the model, the texts and what budget methods measure are read once for all.

The result is a folder: each cell is a run (without masks, unless they are kept), results.md is the table, results.csv
its numbers, results.json perplexity against sparsity. A sweep can be stopped at any time and gone on with."""

_EXAMPLES = """\
examples:
  Wanda against TRIM at three sparsities on the demo model
    %(prog)s demo --targets 0.5 0.6 0.7 --allocations uniform trim --windows 16 --length 256 \\
        --evaluation-windows 32 --out runs/first-sweep
  as in the papers: calibrated on C4, measured on WikiText-2, three seeds
    %(prog)s Qwen/Qwen2.5-3B --targets 0.7 0.75 0.8 --budgets uniform owl alphapruning --seeds 0 1 2 \\
        --corpus c4 --length 2048 --evaluation-corpus wikitext2
  go on with a sweep that was stopped
    %(prog)s --resume runs/first-sweep
  on every GPU of this machine (needs: pip install 'trim-lab[ray]')
    %(prog)s demo --targets 0.6 0.7 --ray

on several machines: start Ray there (ray start), give --ray auto, and keep model, texts and --out on a shared disk."""


def add_sweep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `sweep` to the commands."""
    parser = commands.add_parser(
        "sweep",
        help="prune a model in many ways and compare perplexities",
        usage="%(prog)s MODEL --targets T [T ...] [--out DIR] [option ...]\n       %(prog)s --resume DIR",
        description=_SWEEP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", help='"demo", a Hub id, a folder with safetensors, or a GGUF file'
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the sweep's folder (default: a new one in ./runs)"
    )
    parser.add_argument("--name", default="", help="what to call the sweep")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with this sweep, as it was begun")
    grid = parser.add_argument_group("what varies: one or more values each")
    _several(grid, "--targets", "target", float, "model sparsities, such as 0.6 0.7")
    _several(
        grid,
        "--allocations",
        "allocation",
        str,
        "who sets the sparsity of each row",
        choices=tuple(ALLOCATIONS),
    )
    _several(
        grid, "--budgets", "budget", str, f"who sets that of each layer: {', '.join(BUDGETS)}, or JSON files"
    )
    _several(grid, "--scores", "score", str, "importance of a weight", choices=SCORES)
    _several(grid, "--seeds", "seed", int, "which windows, and which input vectors of them")
    _several(grid, "--vectors", "vectors_per_sequence", int, "input vectors kept of each window")
    _several(
        grid,
        "--recalculate-inputs",
        "recalculate_inputs",
        _yes_or_no,
        "whether later layers of a block see what its earlier ones do after being pruned: no, yes, or both",
        metavar="no|yes",
    )
    _several(
        grid,
        "--refit",
        "refit",
        _yes_or_no,
        "whether the weights that stay are refitted to make up for those that went: no, yes, or both",
        metavar="no|yes",
    )
    _several(grid, "--owl-widths", "owl_width", float, "OWL's lambda")
    _several(grid, "--owl-multiples", "owl_multiple", float, "OWL's M")
    _several(grid, "--alpha-widths", "alpha_width", float, "AlphaPruning's epsilon")
    _several(
        grid, "--alpha-fits", "alpha_fit", str, "how the tail of a spectrum is fitted", choices=ALPHA_FITS
    )
    _several(
        grid,
        "--row-weights",
        "row_weights",
        str,
        "what an error in a row's output counts for where anything is optimal",
        choices=ROW_WEIGHTS,
    )
    _several(
        grid,
        "--second-pass",
        "second_pass",
        _yes_or_no,
        "whether what is optimal measures the sensitivity again in the model pruned once: no, yes, or both",
        metavar="no|yes",
    )
    text = parser.add_argument_group("calibration text")
    option(text, "--corpus", str, "demo, wikitext2, c4, or a .txt, .jsonl or .parquet file")
    option(text, "--windows", int, "how many windows")
    option(text, "--length", int, "tokens in a window")
    option(
        text, "--layers", str, "names or shell patterns of the layers to prune", nargs="+", metavar="PATTERN"
    )
    add_text_options(parser.add_argument_group("evaluation texts"), alone=False)
    add_search_options(parser.add_argument_group("TRIM's search"))
    option(
        parser.add_argument_group("optimal allocation and budgets"),
        "--sensitivity-windows",
        int,
        "how many of the windows the sensitivity is measured on",
    )
    machine = parser.add_argument_group("machine")
    option(machine, "--device", str, "cpu, cuda or cuda:1 (default: a GPU where there is one)")
    option(
        machine, "--dtype", str, "float32, bfloat16 or float16 (default: float32 on the CPU, half on a GPU)"
    )
    option(machine, "--batch", int, "windows in one forward pass (default: chosen by itself)")
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


def _several(
    group: argparse._ArgumentGroup,
    flag: str,
    field: str,
    kind: Callable[[str], object],
    help: str,
    *,
    choices: Iterable[str] | None = None,
    metavar: str | None = None,
) -> None:
    """A field of the grid; not given: the default of `prune`."""
    if choices is None:
        metavar = metavar or flag.strip("-").rpartition("-")[2].rstrip("s").upper()
    group.add_argument(
        flag,
        dest=f"grid_{field}",
        type=kind,
        nargs="+",
        help=help.replace("%", "%%"),
        choices=choices,
        metavar=metavar,
    )


def _yes_or_no(word: str) -> bool:
    if word not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"say yes, no or both, not {word!r}")
    return word == "yes"


def _sweep(chosen: argparse.Namespace) -> None:
    from trim.sweeps.run import run_sweep

    sweep = _begin(chosen)
    chosen.folder = sweep.path
    failures = SweepTerminal(sweep)
    run_sweep(sweep, ray=chosen.ray, listener=failures)
    print(results_markdown(sweep, sweep.outcomes()))
    print(f"The sweep is in {sweep.path}: results.md, results.csv, results.json, and a run for each cell.")
    if failures.failed:
        raise RunError(
            f"{failures.failed} of {len(sweep.cells)} cells could not be made, the table says why; to try them again: "
            f"python -m trim sweep --resume {shlex.quote(str(sweep.path))}"
        )


def _begin(chosen: argparse.Namespace) -> Sweep:
    if chosen.resume is not None:
        if chosen.model is not None or chosen.out is not None:
            raise SettingsError("--resume goes on with a sweep as it was begun; leave MODEL and --out away")
        return open_sweep(chosen.resume)
    if chosen.model is None:
        raise SettingsError("say which model to prune, or which sweep to go on with (--resume DIR)")
    grid = {
        name.removeprefix("grid_"): tuple(values)
        for name, values in vars(chosen).items()
        if name.startswith("grid_") and values is not None
    }
    shared = {name: getattr(chosen, name) for name in SHARED if hasattr(chosen, name)}
    if chosen.evaluation_corpus is None:
        chosen.evaluation_corpus = [chosen.corpus]
    settings = SweepSettings(chosen.model, grid, shared, texts_of(chosen, "evaluation_"))
    path = chosen.out or new_run_path(runs_folder(), chosen.name or f"sweep {Path(chosen.model).name}")
    return create_sweep(path, settings, name=chosen.name, keep_masks=chosen.keep_masks)
