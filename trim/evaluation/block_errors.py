"""Errors of the hidden states after each block of a pruned model, against those of the dense one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trim.calibration.block_states import BlockStates, embedded_text
from trim.calibration.calibration import Calibration
from trim.evaluation.perplexity import check_windows
from trim.evaluation.workbench import pruned_layers
from trim.models.loaded import Model
from trim.names import block_index
from trim.progress import Meter, ProgressListener
from trim.pruning.export import require_fit
from trim.runs.folder import Run, open_run

_DENSE, _PRUNED, _DENSE_NEXT, _CARRIED = range(4)  # slots of hidden states


@dataclass(frozen=True)
class BlockError:
    """Errors after one block: h is the dense hidden state, ĥ the pruned one; f is the dense block, f̂ the pruned one.

    Attributes:
        block: its index.
        error: ‖ĥ − h‖ / ‖h‖, median over tokens.
        low, high: the first and the third quartile of the same.
        cosine: between ĥ and h, median over tokens.
        carried: ‖f(ĥ₋) − f(h₋)‖ / ‖h‖, the error of its input ĥ₋ carried through the dense block; median over tokens.
        added: ‖f̂(ĥ₋) − f(ĥ₋)‖ / ‖h‖, the error that pruning the block adds; median over tokens.
        layers: the added error with only one of its layers pruned, by the layer's name.
    """

    block: int
    error: float
    low: float
    high: float
    cosine: float
    carried: float
    added: float
    layers: Mapping[str, float] = field(repr=False)


def block_errors(
    model: Model,
    run: Run | str | Path,
    windows: Tensor,
    *,
    batch: int | None = None,
    progress: ProgressListener | None = None,
) -> list[BlockError]:
    """Measure the errors of a run's hidden states on a text, block by block.

        windows = trim.load_corpus("demo", model.tokenizer, split="evaluation", windows=8, length=256)
        trim.block_errors(model, "runs/first", windows)

    Args:
        model: the dense model; its weights are restored on return.
        run: complete, with masks.
        windows: (windows, length) int64, as `load_corpus(…, split="evaluation")` cuts them.
        batch: windows in one pass; None: automatic. Halved when memory runs out.
        progress: called before each block; an exception from it ends the work.

    Returns:
        One for each block, in order.

    Raises:
        CorpusError, RunError, ModelError: as `perplexity` and `apply_run`.
        NotEnoughMemoryError, SettingsError: the text does not fit.
    """
    run = run if isinstance(run, Run) else open_run(run)
    check_windows(model, windows)
    require_fit(run, model)
    calibration = Calibration.of(windows, vectors_per_sequence=1)
    with embedded_text(model, calibration, slots=4, batch=batch, needs="alongside a block") as states:
        states.in_batches(lambda part: states.write(_PRUNED, part, states.read(_DENSE, part)))
        meter = Meter(progress, of=len(model.blocks))
        errors = []
        for index in range(len(model.blocks)):
            meter.report(f"Following the errors through block {index}", index)
            names = [name for name in run.layers if block_index(name) == index]
            errors.append(_block_error(model, run, states, index, names))
        meter.report("Every block is measured", len(model.blocks))
    return errors


def _block_error(model: Model, run: Run, states: BlockStates, index: int, names: list[str]) -> BlockError:
    """Measure the error after one block, and pass both hidden states on; `names`: its pruned layers."""
    block = model.blocks[index]

    def by_token(work: Callable[[slice], Tensor]) -> Tensor:
        """Compute a number for every token, (tokens,) float64, from the numbers of some windows."""
        values = torch.empty(states.calibration.tokens.shape, dtype=torch.float64)

        def fill(part: slice) -> None:
            values[part] = work(part)

        states.in_batches(fill)
        return values.flatten()

    def relative(part: slice, one: Tensor, other: Tensor) -> Tensor:
        """Return ‖one − other‖ / ‖h‖ of every token."""
        return _norm(one - other) / _norm(states.read(_DENSE_NEXT, part))

    def dense(part: slice) -> Tensor:
        """Run the dense block on both hidden states, and return the carried error."""
        after = states.replay(index, block, part, states.read(_DENSE, part))
        carried = states.replay(index, block, part, states.read(_PRUNED, part))
        states.write(_DENSE_NEXT, part, after)
        states.write(_CARRIED, part, carried)
        return relative(part, carried, after)

    def added(part: slice) -> Tensor:
        """Run the block as it is pruned now, and return the added error."""
        return relative(
            part, states.replay(index, block, part, states.read(_PRUNED, part)), states.read(_CARRIED, part)
        )

    def cosine(part: slice) -> Tensor:
        one, other = states.read(_PRUNED, part).double(), states.read(_DENSE, part).double()
        return torch.nn.functional.cosine_similarity(one, other, dim=-1).cpu()

    carried = by_token(dense)
    layers = {}
    for name in names:
        with pruned_layers(model, run, [name]):
            layers[name] = _median(by_token(added))
    with pruned_layers(model, run, names):
        own = by_token(added)
        states.propagate(index, block, _PRUNED, _PRUNED)
    states.in_batches(lambda part: states.write(_DENSE, part, states.read(_DENSE_NEXT, part)))
    error = by_token(lambda part: relative(part, states.read(_PRUNED, part), states.read(_DENSE, part)))
    low, middle, high = error.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return BlockError(
        index, middle, low, high, _median(by_token(cosine)), _median(carried), _median(own), layers
    )


def _norm(states: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(states.flatten(2), dim=-1, dtype=torch.float64)
    return norm.cpu()


def _median(values: Tensor) -> float:
    return float(values.quantile(0.5))
