"""Progress on the terminal: lines for a log, and on a terminal one line that is rewritten."""

import sys

from trim.evaluation.entries import format_perplexity
from trim.pruning.events import Began, BlockDone, Event, Finished, LayerPruned, Note, Stage
from trim.sweeps.events import (
    CellBegan,
    CellDone,
    CellProgress,
    DenseMeasured,
    SweepBegan,
    SweepEvent,
    SweepFinished,
)
from trim.sweeps.folder import Sweep


class _Terminal:
    """Prints lines; on a terminal also one line that is rewritten, with what is being done now."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()

    def _show(self, text: str) -> None:
        if self._live:
            print(f"\r\x1b[K{text}"[:100], end="", flush=True)

    def _line(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self._live else text, flush=True)


class RunTerminal(_Terminal):
    """Progress of a run, one line for each block."""

    def __init__(self) -> None:
        super().__init__()
        self.began = False
        self._layers: list[LayerPruned] = []

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Began():
                self.began = True
                after = f", resumed after {event.done}" if event.done else ""
                self._line(
                    f"{event.layers} layers in {event.blocks} blocks{after}; {event.tokens:,} tokens, {event.batch} "
                    f"windows at once, activations in {event.activations}"
                )
            case Stage():
                block = "" if event.block is None else f"block {event.block}: "
                self._show(f"{block}{event.stage} {event.text}")
            case LayerPruned():
                self._layers.append(event)
            case BlockDone():
                self._line(self._block(event))
                self._layers.clear()
            case Note():
                self._line(event.text)
            case Finished():
                self._line(f"model sparsity {event.model_sparsity:.6f} after {event.seconds:.0f} s")

    def _block(self, event: BlockDone) -> str:
        gains = [layer.realised_quality - layer.uniform_quality for layer in self._layers]
        rates = [layer.learning_rate or 0 for layer in self._layers]
        signs = "".join("+" if rate > 0 else "-" if rate < 0 else "0" for rate in rates)
        found = ""
        if any(layer.rates_tried for layer in self._layers):
            found = f"quality against uniform {sum(gains) / len(gains):+.4f}  rates {signs}  "
        return (
            f"block {event.block + 1:>3} of {event.blocks}  {event.seconds:6.1f} s  {found}"
            f"{_minutes(event.seconds_left)} left"
        )


class SweepTerminal(_Terminal):
    """Progress of a sweep, one line for each cell."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self.failed = 0
        self._width = max(map(len, sweep.cells))
        self._now = ""

    def __call__(self, event: SweepEvent) -> None:
        """Show one event."""
        match event:
            case SweepBegan():
                after = f", {event.done} of them done already" if event.done else ""
                self._line(f"{event.cells} cells{after}")
            case DenseMeasured():
                self._line(f"dense: perplexity {_format(event.perplexities)}")
            case CellBegan():
                self._now = f"{event.number} of {event.cells}: {event.cell}"
                self._show(self._now)
            case CellProgress(event=BlockDone() as done):
                self._show(f"{self._now}, block {done.block + 1} of {done.blocks}")
            case CellProgress(event=Note() as note):
                self._line(f"{event.cell}: {note.text}")
            case CellDone():
                self.failed += event.problem is not None
                result = event.problem or f"perplexity {_format(event.perplexities)}"
                self._line(
                    f"{event.cell.ljust(self._width)}  {result}  ({event.seconds_left / 60:.0f} min left)"
                )
            case SweepFinished():
                self._line(
                    f"{event.done} cells done, {event.failed} failed, after {event.seconds / 60:.1f} min"
                )


def _format(values: tuple[float, ...]) -> str:
    return ", ".join(map(format_perplexity, values))


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
