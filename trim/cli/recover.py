"""The command `recover`, which trains a pruned model, and its progress on the terminal."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from trim.cli.options import Commands, add_options, chosen_fields, refuse
from trim.cli.terminal import Terminal
from trim.names import counted, format_bytes
from trim.pruning.events import Note
from trim.runs.options import make_settings, options
from trim.runs.recovery import RecoverSettings, Recovery

if TYPE_CHECKING:
    from trim.recovery.events import Fact

OPTIONS = tuple(options(RecoverSettings))
_DESCRIPTION = """\
Train a pruned model for some minutes: its kept weights learn to predict what the dense model predicts, and every zero
stays. Works on any run, and on any pruned checkpoint whose dense model you name.

A part of the text is held out; the result is the model that does best on it. It is kept in a separate folder, which
evaluate, generate, xray and export take as they take a model. Stopped, it can be resumed."""

_EXAMPLES = """\
examples:
  five minutes for a run
    %(prog)s runs/first --minutes 5
  a checkpoint that was pruned elsewhere
    %(prog)s ./pruned-llama --parent meta-llama/Llama-2-7b-hf --corpus wikitext2 --minutes 60
  the same bits again: steps instead of minutes, on a CPU
    %(prog)s runs/first --steps 200 --device cpu"""


def add_recover(commands: Commands) -> None:
    """Add `recover` to the commands."""
    parser = commands.add_parser(
        "recover",
        help="train a pruned model for some minutes, zeros staying zero",
        usage="%(prog)s RUN [--minutes M] [--out DIR] [option ...]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sparse", metavar="RUN", help="a complete run, or a pruned checkpoint")
    parser.add_argument("--parent", metavar="MODEL", help="the dense model that a checkpoint was made from")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new folder (default: next to the run)")
    parser.add_argument("--name", default="", help="the recovery's title")
    add_options(parser, OPTIONS, RecoverSettings)
    parser.set_defaults(work=_recover)


class RecoveryTerminal(Terminal):
    """Progress of a recovery, one line for each look at the held-out windows."""

    def __init__(self) -> None:
        super().__init__()
        self.began = False

    def __call__(self, event: "Fact") -> None:
        """Show what was done."""
        from trim.recovery.events import Began, Measured

        match event:
            case Began():
                self.began = True
                parts = f", {event.in_one_pass} at once" if event.in_one_pass < event.windows else ""
                again = ", blocks computed again in the backward pass" if event.checkpointing else ""
                self.line(
                    f"{'resumed: ' if event.resumed else ''}{event.trained:,} weights are trained, "
                    f"{counted(event.windows, 'window')} in a step{parts}{again}; needs about "
                    f"{format_bytes(event.memory_bytes)} of memory"
                )
            case Measured():
                mark = "" if event.best else "  (not the best)"
                line = held_out_line(event.step, event.seconds, event.divergence, event.perplexity)
                self.line(f"{line}{mark}")
            case Note():
                self.line(event.text)


def _recover(chosen: argparse.Namespace) -> None:
    from trim.recovery.recover import default_path, recover

    if hasattr(chosen, "minutes"):
        refuse(chosen, ["steps"], "replaces --minutes; give one of the two")
    chosen.folder = chosen.out or default_path(chosen.sparse)
    terminal = RecoveryTerminal()
    print_recovery(
        recover(
            chosen.sparse,
            chosen.folder,
            make_settings(RecoverSettings, chosen_fields(chosen, OPTIONS)),
            parent=chosen.parent,
            name=chosen.name,
            progress=terminal.progress,
            listener=terminal,
        )
    )


def held_out_line(step: int, seconds: float, divergence: float, perplexity: float) -> str:
    """Format the losses on the held-out windows at one step."""
    return (
        f"step {step:>6,}  {seconds:7.1f} s  held out: {divergence:.4f} nats from the dense model, perplexity "
        f"{perplexity:.4g}"
    )


def print_recovery(recovery: Recovery) -> None:
    """Print the result of a recovery, and its folder."""
    metrics, path = recovery.metrics, shlex.quote(str(recovery.path))
    curve = metrics["curve"]
    first, best = curve[0], curve[metrics["best"]]
    print(
        f"held-out perplexity {first['perplexity']:.4g} before, {best['perplexity']:.4g} after "
        f"{counted(best['step'], 'step')}; sparsity {metrics['sparsity']:.6f}; "
        f"trained {metrics['training_seconds']:.0f} s, {metrics['seconds']:.0f} s "
        "with loading and writing"
    )
    print(f"It is in {path}. Measure it: python -m trim evaluate {path}")
