"""How sensitive a model's loss is to errors in each output row: the rows' empirical Fisher information.

f_i = mean over tokens of (∂loss/∂y_i)², with the loss a window's sum of next-token cross-entropies. To second order an
error δ in row i's output costs f_i · δ² / 2 on average (the diagonal of the empirical Fisher matrix in place of the
Hessian, as in LeCun, Denker, Solla, "Optimal Brain Damage", NIPS 1989, and Singh and Alistarh, "WoodFisher",
arXiv 2004.14340), so Σ f_i · error_i weighs errors of different rows and layers against each other.

The forward pass keeps the hidden states between blocks. The backward pass then goes through one block at a time, which
is run again from its inputs. So only one block of weights and the graph of one batch are in memory, and no weight has a
gradient. `TextPass` cannot do this: it holds the inputs of one block only, and the backward pass needs those of each
(`BlockStates`); and when memory runs out it begins a block again, while here finished sums must stay.
"""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import torch
import transformers
from safetensors.torch import load, save
from torch import Tensor, nn

from trim.cache import cached, entry_path, load_entry
from trim.calibration.block_states import BlockModel, BlockStates, InMemoryModel
from trim.calibration.calibration import Calibration
from trim.calibration.hidden_states import HiddenStates, allocate_states
from trim.calibration.input_listener import InputListener
from trim.calibration.inputs import LayerInputs
from trim.calibration.layers import linear_layers, require_finite
from trim.calibration.text_pass import default_batch
from trim.errors import ModelError, NonFiniteError
from trim.matmul import sum_dtype
from trim.models.architecture import trial_of
from trim.models.loaded import Model
from trim.models.replay import run_after_blocks
from trim.progress import Meter, ProgressListener

_COST_OF_BACKWARD = 3  # times that of the forward pass
# Called with a layer's name, the layer, its inputs, and its rows' sensitivity (D,) float32.
Visitor = Callable[[str, nn.Linear, LayerInputs, Tensor], None]


def row_sensitivity(
    model: BlockModel,
    calibration: Calibration,
    *,
    batch: int,
    folder: Path,
    activation_bytes: int | None = None,
    progress: ProgressListener | None = None,
    visited: Collection[str] = (),
    visit: Visitor | None = None,
) -> dict[str, Tensor]:
    """Measure the empirical Fisher sensitivity of every row of every linear layer in the blocks.

    Args:
        model: the model, pruned or dense.
        calibration: the text; padding never counts. A few windows suffice.
        batch: windows in one pass; halves when memory runs out.
        folder: where hidden states may be stored when memory does not hold them.
        activation_bytes: the most memory that hidden states may take; None: a share of the free memory.
        progress: called at each block, in the forward and in the backward pass.
        visited: the layers to visit.
        visit: called for each of them while its block is in memory, from the last block to the first.

    Returns:
        (D,) float32 for each layer, in host memory, in the model's order.

    Raises:
        NonFiniteError: a weight or a gradient is NaN or infinite; the message names the layer.
        NotEnoughMemoryError: not even one window fits.
        SettingsError: the hidden states fit neither into memory nor on the disk.
        ModelError: the architecture cannot be run block by block.
    """
    with torch.inference_mode(False):  # its tensors could not be part of a graph
        shape = (
            (len(model.blocks) + 1) * calibration.windows,
            calibration.length,
            *trial_of(model.module).state_shape,
        )
        with allocate_states(
            shape, model.dtype, model.device, folder=folder, limit_bytes=activation_bytes
        ) as states:
            work = _Pass(model, calibration, states, batch, progress)
            work.forward()
            return work.backward(visited, visit)


class _Pass(BlockStates):
    """The forward pass of the text and the backward pass of the gradient; slot b holds the inputs of block b."""

    def __init__(
        self,
        model: BlockModel,
        calibration: Calibration,
        states: HiddenStates,
        batch: int,
        progress: ProgressListener | None,
    ) -> None:
        super().__init__(model, calibration, states, batch, "with its gradients")
        self._meter = Meter(progress, of=len(model.blocks) * (1 + _COST_OF_BACKWARD))

    def forward(self) -> None:
        """Fill every slot."""
        with torch.no_grad():
            self.embed()
            for index in range(len(self.model.blocks)):
                self._meter.report(
                    f"Measuring which rows the loss is sensitive to: forward, block {index}", index
                )
                with self.model.block(index) as block:
                    layers = linear_layers(block, index)
                    require_finite({name: layer.weight for name, layer in layers.items()})
                    self.propagate(index, block, index, index + 1)

    def backward(self, visited: Collection[str], visit: Visitor | None) -> dict[str, Tensor]:
        """Replace hidden states, from the last slot to the first, by the loss's gradient with respect to them."""
        with torch.enable_grad():
            with self.model.outside() as module:
                self.in_batches(functools.partial(self._after_blocks, module))
            found: list[dict[str, Tensor]] = []
            blocks = len(self.model.blocks)
            for index in reversed(range(blocks)):
                self._meter.report(
                    f"Measuring which rows the loss is sensitive to: backward, block {index}",
                    blocks + _COST_OF_BACKWARD * (blocks - 1 - index),
                )
                with self.model.block(index) as block:
                    listener = InputListener(self.calibration, linear_layers(block, index, visited))
                    found.append(self._block_back(index, block, listener))
                    if listener.layers and visit is not None:
                        with torch.no_grad():
                            received = listener.received()
                            for name, layer in listener.layers.items():
                                visit(name, layer, received[name], found[-1][name])
        return {name: values for block in reversed(found) for name, values in block.items()}

    def _after_blocks(self, module: nn.Module, part: slice) -> None:
        """Compute the gradient after the last block, one window at a time: logits are large."""
        last, mask = len(self.model.blocks), self.mask(part)
        states = self.read(last, part)
        gradients = torch.empty_like(states)
        tokens = self.calibration.tokens[part].to(self.model.device)
        for window in range(len(states)):
            one = slice(window, window + 1)
            entering = states[one].clone().requires_grad_()
            window_mask = None if mask is None else mask[one]
            logits = run_after_blocks(module, self.model.blocks, tokens[one], window_mask, entering)[0, :-1]
            logits = logits.to(sum_dtype(logits))
            real = slice(None) if mask is None else mask[window, :-1] & mask[window, 1:]
            loss = nn.functional.cross_entropy(logits[real], tokens[window, 1:][real], reduction="sum")
            gradients[one] = torch.autograd.grad(loss, entering)[0]
        self.write(last, part, gradients)

    def _block_back(self, index: int, block: nn.Module, listener: InputListener) -> dict[str, Tensor]:
        """Replace the gradient after a block by that before it; return its layers' row sensitivities, (D,) each."""
        layers = linear_layers(block, index)
        sums = {
            name: torch.zeros(layer.out_features, dtype=torch.float64, device=self.model.device)
            for name, layer in layers.items()
        }

        def back(part: slice) -> None:
            gradient = self.read(index + 1, part)
            entering = self.read(index, part).clone().requires_grad_()
            # Each part has its own listener, so a part that runs out of memory leaves nothing behind.
            part_listener = InputListener(self.calibration, listener.layers)
            with _summed_squares(layers) as squares, part_listener.listening(part, to_the_end=True):
                leaving = self.replay(index, block, part, entering)
                (gradient,) = torch.autograd.grad(leaving, entering, gradient)
            for name, layer_squares in squares.items():
                sums[name] += layer_squares
            listener.add(part_listener)
            self.write(index, part, gradient)

        self.in_batches(back)
        for name, total in sums.items():
            if not bool(total.isfinite().all()):
                raise NonFiniteError(
                    f"the loss's gradient at {name} is NaN or infinite on the calibration text; check the checkpoint, "
                    "or compute in a wider type (--dtype float32)"
                )
        return {name: (total / self.calibration.real_tokens).float().cpu() for name, total in sums.items()}

    def replay(self, index: int, block: nn.Module, part: slice, states: Tensor) -> Tensor:
        """Return a block's output for some windows' hidden states, with a graph where gradients are enabled."""
        return self.calls(part)[index].for_gradients().replay(block, states)


@contextlib.contextmanager
def _summed_squares(layers: Mapping[str, nn.Linear]) -> Iterator[dict[str, Tensor]]:
    """Sum up the squares of each row's gradient, (D,), in backward passes inside the `with` block."""
    squares: dict[str, Tensor] = {}

    def add(name: str, gradient: Tensor) -> None:
        # In one pass, without a copy in a wider type.
        norm = torch.linalg.vector_norm(gradient.flatten(0, -2), dim=0, dtype=sum_dtype(gradient))
        square = norm.double().square()
        squares[name] = squares[name] + square if name in squares else square

    def listen(name: str, module: nn.Module, arguments: tuple, output: Tensor) -> None:
        output.register_hook(functools.partial(add, name))

    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(functools.partial(listen, name)))
        yield squares
        if idle := [name for name in layers if name not in squares]:
            raise ModelError(f"no gradient reaches {idle[0]}; leave such layers out with --layers")


def cached_sensitivity(
    weights: object, model: BlockModel, calibration: Calibration, measure: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the sensitivity of a model on a text from the cache, or measure and cache it.

    Args:
        weights: plain JSON that changes whenever the weights may have changed.
        model: the model.
        calibration: the text.
        measure: measures it.
    """
    return cached(_entry(weights, model, calibration), measure, parse=load, pack=save)


def _entry(weights: object, model: BlockModel, calibration: Calibration) -> Path:
    key = {
        "sensitivity": 1,
        "model": weights,
        "text": calibration.sha256,
        "compute": [model.device.type, str(model.dtype), torch.__version__, transformers.__version__],
    }
    return entry_path("captures", key, ".safetensors")


def sensitivity(
    model: Model, windows: Tensor, *, progress: ProgressListener | None = None
) -> dict[str, Tensor]:
    """Load `row_sensitivity` of a loaded model from the cache, or measure it.

    Args:
        model: from `load_model`.
        windows: (windows, length) int64 tokens; a few windows suffice.
        progress: called at each block, in the forward and in the backward pass.

    Raises:
        The errors of `row_sensitivity`.
    """
    blockwise, calibration = InMemoryModel(model), Calibration.of(windows)

    def measure() -> dict[str, Tensor]:
        batch = default_batch(calibration, model.device)
        folder = Path(tempfile.gettempdir())
        return row_sensitivity(blockwise, calibration, batch=batch, folder=folder, progress=progress)

    return cached_sensitivity(_loaded_key(model), blockwise, calibration, measure)


def load_cached_sensitivity(model: Model, windows: Tensor) -> dict[str, Tensor] | None:
    """Return the result of `sensitivity` if it is cached; None: it has to be measured."""
    return load_entry(_entry(_loaded_key(model), InMemoryModel(model), Calibration.of(windows)), load)


def _loaded_key(model: Model) -> dict:
    return {"loaded": model.fingerprint, **model.weights_key}
