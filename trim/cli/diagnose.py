"""The command `diagnose`: measure the effect of a run on its model and on single layers."""

import argparse
import json
from pathlib import Path

from trim.cli.options import Commands, add_json, add_machine, refuse
from trim.cli.terminal import Terminal
from trim.evaluation.diagnose_text import (
    DIAGNOSES,
    LAYER_DIAGNOSES,
    added_losses,
    agreements_finding,
    finding,
    format_text,
    measured_tokens,
    signal_finding,
    targets_finding,
)
from trim.evaluation.settings import EvaluationText
from trim.names import CORPORA, absolute, one_line, select_layers
from trim.progress import Progress
from trim.pruning.events import event_to_json
from trim.runs.diagnosis_files import read_layer_diagnoses, signal_from_json
from trim.runs.folder import Run

TOKENS_LISTED = 20
DRAWS, WINDOWS, LENGTH = 12, 4, 256  # defaults
_DRAWS = ("draws", "other_windows", "texts", "vectors")  # the options of `signal`

_DESCRIPTION = """\
Measure what a run did to its model on held-out text, and keep the result with the run (diagnoses.json):

  layers   what each layer costs: the loss with that layer alone pruned, and its prediction from the rows' sensitivities
  blocks   where error builds up: hidden states after each block, the pruned model's against the dense one's
  tokens   which tokens suffer: the loss of each token under the dense and the pruned model

Or measure single layers on the inputs that they had when they were pruned (kept in the run's folder `diagnoses`):

  signal      how certain the row sparsities are that TRIM learns, over several draws of the layer's inputs
  agreement   which weights the run's mask and that of another method both keep, at equal sparsity
  targets     the rows at targets from 30 to 90%"""

_EXAMPLES = """\
examples:
  %(prog)s layers runs/first
  %(prog)s layers runs/first --layers "15.*" "*.down_proj"
  %(prog)s tokens runs/first --corpus wikitext2 --windows 4 --length 512
  %(prog)s signal runs/first --layers 15.mlp.gate_proj --draws 24"""


def add_diagnose(commands: Commands) -> None:
    """Add `diagnose` to the commands."""
    parser = commands.add_parser(
        "diagnose",
        help="what a run did to its model, by layer, block and token",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=[*DIAGNOSES, *LAYER_DIAGNOSES], help="what to measure")
    parser.add_argument("run", type=Path, help="a complete run with masks")
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="PATTERN",
        help="of `layers` and of single layers: names or shell patterns (default: all that the run pruned)",
    )
    draws = parser.add_argument_group("draws of `signal`")
    draws.add_argument("--draws", type=int, metavar="N", help=f"how many (default: {DRAWS})")
    draws.add_argument(
        "--other-windows",
        action="store_true",
        help="draw other windows of the text (default: draw the layer's input vectors, with replacement)",
    )
    draws.add_argument(
        "--texts",
        nargs="+",
        metavar="TEXT",
        help="one draw from the run's own text, and one from each of these",
    )
    draws.add_argument(
        "--vectors", type=int, metavar="N", help="vectors in each (default: as many as there are)"
    )
    text = parser.add_argument_group("text of `layers`, `blocks` and `tokens`")
    text.add_argument(
        "--corpus",
        metavar="CORPUS",
        help="demo, wikitext2, c4, or a .txt, .jsonl or .parquet file: its evaluation part (default: demo)",
    )
    text.add_argument("--windows", type=int, metavar="N", help=f"the first N (default: {WINDOWS})")
    text.add_argument("--length", type=int, metavar="N", help=f"tokens in a window (default: {LENGTH})")
    add_machine(parser, "device", "dtype", "batch")
    add_json(parser, "progress and result, one JSON object a line")
    parser.set_defaults(work=_diagnose)


def _diagnose(chosen: argparse.Namespace) -> None:
    _check_options(chosen)
    text = EvaluationText(
        chosen.corpus or EvaluationText.corpus,
        WINDOWS if chosen.windows is None else chosen.windows,
        LENGTH if chosen.length is None else chosen.length,
    )
    layers = chosen.layers or ["*"]
    from trim.evaluation.diagnoses import diagnose
    from trim.evaluation.layer_diagnoses import diagnose_layers
    from trim.evaluation.workbench import Workbench

    terminal, what = Terminal(), chosen.what
    progress = _print_progress if chosen.json else terminal.progress
    bench = Workbench(device=chosen.device, dtype=chosen.dtype, progress=progress)
    if what in LAYER_DIAGNOSES:
        run = diagnose_layers(
            chosen.run,
            what,
            layers,
            draws=DRAWS if chosen.draws is None else chosen.draws,
            windows=chosen.other_windows,
            texts=[absolute(text, CORPORA) for text in chosen.texts or ()],
            vectors=chosen.vectors,
            workbench=bench,
            progress=progress,
        )
        for name in select_layers(layers, run.layers):
            if chosen.json:
                measured = dict(read_layer_diagnoses(run, name))[what]
                print(json.dumps({"layer": name, what: measured}), flush=True)
            else:
                terminal.line(f"{name}: {_layer_finding(run, name, what)}")
        return
    run = diagnose(
        chosen.run,
        what,
        text,
        layers=layers,
        batch=chosen.batch,
        workbench=bench,
        progress=progress,
    )
    if chosen.json:
        print(json.dumps({what: dict(run.diagnoses)[what]}), flush=True)
        return
    for line in (*_TABLES[what](run), finding(what, run.diagnoses)):
        terminal.line(line)


def _check_options(chosen: argparse.Namespace) -> None:
    """Refuse options that the diagnosis does not have, or that contradict each other."""
    what = chosen.what
    if what not in ("layers", *LAYER_DIAGNOSES):
        refuse(chosen, ["layers"], f"is not an option of {what}, which is of the whole model")
    if what in LAYER_DIAGNOSES:
        why = f"is not an option of {what}, which reads the text that the run was pruned on"
        refuse(chosen, ["corpus", "windows", "length", "batch"], why)
    if what != "signal":
        refuse(chosen, _DRAWS, f"is an option of signal, not of {what}")
    elif chosen.texts:
        refuse(
            chosen,
            ["draws", "other_windows", "vectors"],
            "has no effect beside --texts: each text is one draw",
        )
    elif chosen.other_windows:
        refuse(
            chosen,
            ["vectors"],
            "has no effect beside --other-windows: each draw has the vectors of its windows",
        )


def _layer_finding(run: Run, name: str, what: str) -> str:
    """Describe the stored measurement of a layer in a sentence."""
    measured, columns = read_layer_diagnoses(run, name), run.numbers(name)["columns"]
    if what == "signal":
        return signal_finding(signal_from_json(measured["signal"], columns))
    if what == "agreement":
        return agreements_finding(measured["agreement"])
    return targets_finding(measured["targets"], columns)


def _print_progress(now: Progress) -> None:
    print(json.dumps(event_to_json(now)), flush=True)


def _layers_table(run: Run) -> list[str]:
    measured = run.diagnoses["layers"]
    costs = added_losses(measured)
    width = max(map(len, costs), default=0)
    lines = [
        format_text(measured["text"]),
        f"{'layer'.ljust(width)}  nats per token    ± (1 s.e.)  predicted by sensitivities",
    ]
    for name in sorted(costs, key=lambda name: -costs[name]):
        numbers = measured["layers"][name]
        error, predicted = float(numbers["standard_error"]), float(numbers["predicted"])
        lines.append(f"{name.ljust(width)}  {costs[name]:+14.5f}  {error:12.5f}  {predicted:+26.5f}")
    return lines


def _blocks_table(run: Run) -> list[str]:
    measured = run.diagnoses["blocks"]
    lines = [format_text(measured["text"]), "block   error  cosine  carried   added  most by"]
    for each in measured["blocks"]:
        layers = {name: float(value) for name, value in each["layers"].items()}
        worst = max(layers, key=layers.__getitem__, default="")
        error, cosine = float(each["error"]), float(each["cosine"])
        carried, added = float(each["carried"]), float(each["added"])
        lines.append(f"{each['block']:>5}  {error:6.2%}  {cosine:.4f}  {carried:7.2%} {added:7.2%}  {worst}")
    return lines


def _tokens_table(run: Run) -> list[str]:
    measured = run.diagnoses["tokens"]
    lines = [format_text(measured["text"]), "   dense   pruned    added  token"]
    for token in sorted(measured_tokens(measured), key=lambda token: -token.difference)[:TOKENS_LISTED]:
        context = one_line(token.before)[-48:]
        lines.append(
            f"{token.dense:8.3f} {token.pruned:8.3f} {token.difference:+8.3f}  …{context} [{one_line(token.text)}]"
        )
    return lines


_TABLES = {"layers": _layers_table, "blocks": _blocks_table, "tokens": _tokens_table}
