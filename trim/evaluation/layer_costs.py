"""The cost of one layer: the model's loss with that layer alone pruned, from the hidden states before its block."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from trim.calibration.block_states import BlockStates, embedded_text
from trim.calibration.calibration import Calibration
from trim.calibration.sensitivity import sensitivity
from trim.evaluation.perplexity import check_windows, exp, logit_windows, next_token_losses
from trim.evaluation.workbench import pruned_layers
from trim.models.loaded import Model
from trim.models.replay import run_after_blocks
from trim.names import block_index, select_layers
from trim.progress import Meter, ProgressListener
from trim.pruning.export import require_fit
from trim.runs.folder import Run, open_run


@dataclass(frozen=True)
class LayerCost:
    """One layer, pruned alone in the dense model.

    Attributes:
        name: such as "15.mlp.gate_proj".
        loss: the mean loss per token with the layer pruned, in nats; may be NaN or infinite.
        standard_error: standard error over windows of the difference to the dense loss; NaN for a single window.
        predicted: the difference that the rows' sensitivities predict, ½ Σ_i f_i · (mean over tokens of δ_i²), δ_i the
            error of row i's output and f_i its empirical Fisher information.
    """

    name: str
    loss: float
    standard_error: float
    predicted: float

    @property
    def perplexity(self) -> float:
        """Return exp of the loss."""
        return exp(self.loss)


@dataclass(frozen=True)
class LayerCosts:
    """The dense model's mean loss per token, and the loss with each layer alone pruned, in the model's order."""

    dense_loss: float
    layers: tuple[LayerCost, ...]


def layer_costs(
    model: Model,
    run: Run | str | Path,
    windows: Tensor,
    *,
    layers: Sequence[str] = ("*",),
    batch: int | None = None,
    progress: ProgressListener | None = None,
    each: Callable[[LayerCosts], None] | None = None,
) -> LayerCosts:
    """Measure the loss of a dense model with one layer at a time pruned as a run pruned it.

    The text goes through the dense model once, and the hidden states before each block are stored: for each layer only
    its block and the blocks after it are run again.

        windows = trim.load_corpus("demo", model.tokenizer, split="evaluation", windows=8, length=256)
        trim.layer_costs(model, "runs/first", windows, layers=["15.*"])

    Args:
        model: the dense model; its weights are restored on return.
        run: complete, with masks.
        windows: (windows, length) int64, as `load_corpus(…, split="evaluation")` cuts them.
        layers: names or shell patterns.
        batch: windows in one pass; None: automatic. Halved when memory runs out.
        progress: called before each layer; an exception from it ends the work.
        each: called after each layer with the costs of all layers so far.

    Raises:
        LayerNotFoundError: the run pruned no such layer.
        CorpusError, RunError, ModelError: as `perplexity` and `apply_run`.
        NonFiniteError: a weight or a gradient of the dense model is NaN or infinite.
        NotEnoughMemoryError, SettingsError: the text does not fit.
    """
    run = run if isinstance(run, Run) else open_run(run)
    check_windows(model, windows)
    require_fit(run, model)
    names = select_layers(layers, run.layers)
    fisher = sensitivity(model, windows, progress=progress)
    calibration = Calibration.of(windows, vectors_per_sequence=1)
    blocks = len(model.blocks)
    with embedded_text(model, calibration, slots=blocks + 1, batch=batch, needs="with its logits") as states:
        work = _Suffixes(model, states)
        dense = work.dense_losses(progress)
        meter = Meter(progress, of=sum(blocks - block_index(name) for name in names))
        costs = LayerCosts(float(dense.mean()), ())
        for name in names:
            meter.report(f"Pruning {name} alone")
            costs = replace(costs, layers=(*costs.layers, work.cost(name, run, dense, fisher[name])))
            meter.done += blocks - block_index(name)
            if each is not None:
                each(costs)
    meter.report("Every layer is measured")
    return costs


class _Suffixes:
    """Passes that begin before a block, from the dense hidden states there."""

    def __init__(self, model: Model, states: BlockStates) -> None:
        self.model = model
        self.states = states

    def dense_losses(self, progress: ProgressListener | None) -> Tensor:
        """Fill the slots after all blocks, and return each window's mean loss, (windows,) float64."""
        meter = Meter(progress, of=len(self.model.blocks))
        for index, block in enumerate(self.model.blocks):
            meter.report(f"Reading the text: block {index}", index)
            self.states.propagate(index, block, index, index + 1)
        return self._losses(len(self.model.blocks))[0]

    def cost(self, name: str, run: Run, dense: Tensor, fisher: Tensor) -> LayerCost:
        """Prune a layer, run its block and those after it, and restore the layer."""
        layer = self.model.layers[name]
        with pruned_layers(self.model, run, [name]) as dense_weights:
            losses, squares = self._losses(block_index(name), layer, layer.weight - dense_weights[name])
        difference = losses - dense
        spread = float(difference.std()) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
        tokens = self.states.calibration.tokens.numel()
        predicted = 0.5 * float((fisher.double() * squares.cpu()).sum()) / tokens
        return LayerCost(name, float(losses.mean()), spread, predicted)

    def _losses(
        self, first: int, layer: nn.Linear | None = None, change: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the model from the hidden states before block `first`.

        Returns:
            Each window's mean loss, (windows,) float64, and Σ δ_i² over tokens of the error that `change` makes in the
            outputs of `layer`, (D,) float64; 0 without one.
        """
        model, states = self.model, self.states
        window_losses = torch.empty(states.calibration.windows, dtype=torch.float64)
        # By the first window of a part: a part that ran out of memory is repeated, and overwritten.
        squares: dict[int, Tensor] = {}
        most = logit_windows(model, states.calibration.length)

        def suffix(part: slice) -> None:
            hidden = states.read(first, part)
            with _output_error(layer, change) as errors:
                for index in range(first, len(model.blocks)):
                    hidden = states.replay(index, model.blocks[index], part, hidden)
            squares[part.start] = sum(errors, torch.zeros(1, dtype=torch.float64, device=hidden.device))
            tokens = states.calibration.tokens[part].to(model.device)
            losses = [
                next_token_losses(run_after_blocks(model.module, model.blocks, some, None, entering), some)
                for some, entering in zip(tokens.split(most), hidden.split(most), strict=True)
            ]
            window_losses[part] = torch.cat(losses).double().mean(dim=1).cpu()

        states.in_batches(suffix)
        return window_losses, torch.stack(list(squares.values())).sum(dim=0)


@contextlib.contextmanager
def _output_error(layer: nn.Linear | None, change: Tensor | None) -> Iterator[list[Tensor]]:
    """Collect Σ δ_i² over tokens of the error that a change of the weight makes in each output, (D,) float64 each."""
    squares: list[Tensor] = []
    if layer is None or change is None:
        yield squares
        return

    def listen(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        squares.append((arguments[0] @ change.T).flatten(0, -2).double().square().sum(dim=0))

    hook = layer.register_forward_pre_hook(listen)
    try:
        yield squares
    finally:
        hook.remove()
