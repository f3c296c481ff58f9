"""The command `xray`: how a checkpoint was pruned."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from trim.cli.options import Commands, add_json, add_machine, refuse
from trim.cli.terminal import Terminal
from trim.errors import SettingsError
from trim.evaluation.settings import EvaluationText
from trim.names import text_table
from trim.seeds import require_seed

if TYPE_CHECKING:
    from torch import Tensor

    from trim.evaluation.agreement import Agreement
    from trim.runs.diagnosis_shapes import TokenDiagnosis

LOSS_WINDOWS = 4
_WINDOWS = {"windows": 16, "length": 256, "seed": 0}  # defaults

_DESCRIPTION = """\
Find out how a checkpoint was pruned, by anybody: sparsity of its layers, rows and columns, the n:m pattern it follows
and where it breaks it, dead rows, what packing would save. No model is built: any architecture, in the memory of its
largest tensor.

With the model it was made from: how much the kept weights changed. With a text as well: how far its masks agree with
those of Wanda, TRIM and the optimal allocation, and the error of each layer's output; with --losses the loss of each
token."""

_EXAMPLES = """\
examples:
  %(prog)s ./somebodys-pruned-model
  %(prog)s ./somebodys-pruned-model --parent Qwen/Qwen2.5-0.5B --corpus demo --losses"""


def add_xray(commands: Commands) -> None:
    """Add `xray` to the commands."""
    parser = commands.add_parser(
        "xray",
        help="how a checkpoint was pruned, by any method",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help='a folder with safetensors, a Hub id, a GGUF file, or "demo"')
    parser.add_argument("--parent", metavar="MODEL", help="the model that it was made from")
    text = parser.add_argument_group("agreement with the library's masks (needs --parent)")
    text.add_argument(
        "--corpus", metavar="CORPUS", help="demo, wikitext2, c4, or a file: what the parent reads"
    )
    text.add_argument(
        "--losses", action="store_true", help="build the checkpoint too, and compare the loss of each token"
    )
    text.add_argument("--windows", type=int, metavar="N", help="of the text (default: 16)")
    text.add_argument("--length", type=int, metavar="N", help="tokens in a window (default: 256)")
    text.add_argument("--seed", type=int, help="decides which windows (default: 0)")
    add_machine(parser, "device")
    add_json(parser, "all of it as JSON, by layer")
    parser.set_defaults(work=_xray)


def _xray(chosen: argparse.Namespace) -> None:
    if chosen.corpus is not None and chosen.parent is None:
        raise SettingsError(
            "--corpus needs the model that the checkpoint was made from; name it with --parent"
        )
    _check_text(chosen)
    from trim.evaluation.diagnose_text import tokens_finding
    from trim.evaluation.xray import xray
    from trim.evaluation.xray_text import MASK_TITLES, by_kind, findings, mean_agreement, xray_to_json

    terminal = Terminal(sys.stderr if chosen.json else None)
    result = xray(chosen.checkpoint, chosen.parent, progress=terminal.progress)
    if not chosen.json:
        terminal.line(result.title)
        for sentence in findings(result):
            print(f"  {sentence}")
        print(_table(by_kind(result)))
    agreed, tokens = (None, None) if chosen.corpus is None else _compare(chosen, terminal)
    if chosen.json:
        content = xray_to_json(result)
        if agreed is not None:
            content["agreement"] = [vars(each) for each in agreed]
        if tokens is not None:
            content["tokens"] = tokens
        terminal.line(json.dumps(content, indent=1))
    elif agreed is not None:
        terminal.line("Of the weights that its mask or another keeps, both keep (mean over layers):")
        for method, share in mean_agreement(agreed).items():
            print(f"  {MASK_TITLES[method]:<36}{share:7.1%}")
        worst = max(agreed, key=lambda each: each.error)
        print(f"{worst.name} has the largest error: {worst.error:.1%} of its output's energy on this text.")
    if tokens is not None and not chosen.json:
        print(tokens_finding(tokens))


def _check_text(chosen: argparse.Namespace) -> None:
    """Refuse options of a text that cannot be read, before anything slow; fill in those that were not given."""
    from trim.calibration.corpora import require_text

    if chosen.corpus is None:
        refuse(chosen, ["losses", *_WINDOWS], "needs a text; name one with --corpus")
        return
    for name, value in _WINDOWS.items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    EvaluationText(chosen.corpus, chosen.windows, chosen.length)
    require_seed(chosen.seed)
    require_text(chosen.corpus)


def _compare(
    chosen: argparse.Namespace, terminal: Terminal
) -> "tuple[list[Agreement], TokenDiagnosis | None]":
    """Compare the checkpoint's zeros with masks of its parent, and on request its losses with the parent's."""
    from trim.calibration.corpora import load_corpus
    from trim.evaluation.agreement import agreements
    from trim.evaluation.diagnoses import compare_tokens
    from trim.models.loaded import load_model

    progress = terminal.progress
    parent = load_model(chosen.parent, device=chosen.device, progress=progress)

    def read(split: str, windows: int) -> "Tensor":
        return load_corpus(
            chosen.corpus,
            parent.tokenizer,
            split=split,
            windows=windows,
            length=chosen.length,
            seed=chosen.seed,
            progress=progress,
        )

    agreed = agreements(chosen.checkpoint, parent, read("calibration", chosen.windows), progress=progress)
    if not chosen.losses:
        return agreed, None
    checkpoint = load_model(chosen.checkpoint, device=parent.device, dtype=parent.dtype, progress=progress)
    windows = read("evaluation", LOSS_WINDOWS)
    return agreed, compare_tokens(parent, checkpoint, windows, chosen.corpus, progress=progress)


def _table(rows: list[dict[str, object]]) -> str:
    """Lay rows out in columns; shares in percent."""
    shares = {"Sparsity", "Lowest", "Highest", "Spread of rows"}
    return "\n".join(
        text_table([{title: _cell(row[title], title in shares) for title in row} for row in rows])
    )


def _cell(value: object, share: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1%}" if share else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
