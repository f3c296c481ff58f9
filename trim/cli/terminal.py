"""Progress on the terminal: lines for a log, and on a terminal one line that is rewritten."""

import sys
from typing import TextIO

from trim.evaluation.entries import format_perplexity
from trim.names import counted
from trim.progress import Progress, format_seconds
from trim.pruning.events import Began, BlockDone, Fact, Finished, LayerPruned, Note
from trim.sweeps.events import CellDone, DenseMeasured, SweepBegan, SweepFact, SweepFinished
from trim.sweeps.folder import Sweep

_PLACES = {"gpu": "on the GPU", "ram": "in memory", "disk": "on the disk"}  # of activations
MAX_SIGNS = 16  # in a line; a block of experts has hundreds of layers


class Terminal:
    """Prints lines, and on a terminal one rewritten line with the current step."""

    def __init__(self, live: TextIO | None = None) -> None:
        """`live` is the stream whose line is rewritten, if it is a terminal; None: lines are printed."""
        self._stream = live or sys.stdout
        self._live = self._stream.isatty()
        self._left = ""

    def progress(self, now: Progress) -> None:
        """Show what is being done."""
        if now.seconds_left is not None:
            self._left = f"{format_seconds(now.seconds_left)} left"
        if self._live:
            share = "" if now.fraction is None else f"{now.fraction:4.0%}  "
            print(f"\r\x1b[K{share}{now}"[:100], end="", file=self._stream, flush=True)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self._live:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
        print(text, flush=True)


class RunTerminal(Terminal):
    """Progress of a run, one line for each block."""

    def __init__(self) -> None:
        super().__init__()
        self.began = False
        self._layers: list[LayerPruned] = []

    def __call__(self, event: Fact) -> None:
        """Show what was done."""
        match event:
            case Began():
                self.began = True
                after = f", resumed after {event.done}" if event.done else ""
                self.line(
                    f"{counted(event.layers, 'layer')} in {counted(event.blocks, 'block')}{after}; {event.tokens:,} "
                    f"tokens, {counted(event.batch, 'window')} at once, activations {_PLACES[event.activations]}"
                )
            case LayerPruned():
                self._layers.append(event)
            case BlockDone():
                self.line(self._block(event))
            case Note():
                self.line(event.text)
            case Finished():
                self.line(f"model sparsity {event.model_sparsity:.6f} after {event.seconds:.0f} s")

    def _block(self, event: BlockDone) -> str:
        layers = [layer for layer in self._layers if layer.block == event.block]
        # A GPU prunes later blocks before this one is written.
        self._layers = [layer for layer in self._layers if layer.block != event.block]
        outcome = ""
        if any(layer.rates_tried for layer in layers):
            gain = sum(layer.realised_quality - layer.uniform_quality for layer in layers) / len(layers)
            outcome = f"quality against uniform {gain:+.4f}  rates {_signs(layers)}  "
        return f"block {event.block + 1:>3} of {event.blocks}  {event.seconds:6.1f} s  {outcome}{self._left}"


def _signs(layers: list[LayerPruned]) -> str:
    """Return the sign of each layer's learning rate, or of many layers how many have each."""
    signs = [
        "+" if rate > 0 else "-" if rate < 0 else "0" for rate in (each.learning_rate or 0 for each in layers)
    ]
    if len(signs) <= MAX_SIGNS:
        return "".join(signs)
    return ", ".join(f"{signs.count(sign)} {sign}" for sign in "+-0" if sign in signs)


class SweepTerminal(Terminal):
    """Progress of a sweep, one line for each cell."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self.failed = 0
        self._width = max(map(len, sweep.cells))

    def __call__(self, event: SweepFact) -> None:
        """Show what was done."""
        match event:
            case SweepBegan():
                after = f", {event.done} of them done already" if event.done else ""
                self.line(f"{counted(event.cells, 'cell')}{after}")
            case DenseMeasured():
                self.line(f"dense: perplexity {_format(event.perplexities)}")
            case Note():
                self.line(event.text)
            case CellDone():
                self.failed += event.problem is not None
                result = event.problem or f"perplexity {_format(event.perplexities)}"
                self.line(f"{event.cell.ljust(self._width)}  {result}  ({self._left})")
            case SweepFinished():
                self.line(
                    f"{counted(event.done, 'cell')} done, {event.failed} failed, after {event.seconds / 60:.1f} min"
                )


def _format(values: tuple[float, ...]) -> str:
    return ", ".join(map(format_perplexity, values))
