"""The inputs of a loaded model's layers on a calibration text, from one forward pass, cached on disk."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
import transformers
from torch import Tensor, nn

from trim.cache import entry_path, fingerprint, load_entry, store
from trim.calibration.calibration import Calibration
from trim.calibration.corpora import check_length
from trim.calibration.input_listener import InputListener
from trim.calibration.inputs import LayerInputs
from trim.calibration.products import ProductsRequest
from trim.calibration.text_pass import default_batch
from trim.devices import halving
from trim.errors import NonFiniteError, SettingsError
from trim.methods.allocations import ScoredLayer
from trim.methods.choices import INPUT_VECTORS, SCORES
from trim.methods.least_squares import TextProducts
from trim.methods.sweep import curves_of_layers
from trim.models.loaded import Model
from trim.names import block_index
from trim.progress import Meter, ProgressListener

# Tokens in one forward pass on the CPU: larger passes are not faster per token, and report progress less often.
CPU_PASS_TOKENS = 1024
FIRST_WINDOWS = 8  # windows that suffice for a first result
STORED_AT_ONCE = 500  # layers that are stored between two reports; a mixture of experts has thousands


@dataclass(frozen=True, eq=False)
class LayerSample:
    """One layer and its inputs.

    Attributes:
        name: such as "15.mlp.gate_proj".
        weight: (D, N).
        inputs: (N, L), L vectors of the calibration windows, at random positions or the last ones.
        input_norm: (N,) float32, √(Σ x_j² over all tokens / windows).
        text: the products of all tokens, which solvers need; None: not captured.
    """

    name: str
    weight: Tensor = field(repr=False)
    inputs: Tensor = field(repr=False)
    input_norm: Tensor = field(repr=False)
    text: TextProducts | None = field(default=None, repr=False)

    def scored(self, score: str, sensitivity: Tensor | None = None) -> ScoredLayer:
        """Score the layer by one of `SCORES` and sweep it; `sensitivity`: (D,), for optimal allocations.

        Raises:
            NonFiniteError: a weight or an activation is NaN or infinite.
        """
        return scored_layers([self], score, None if sensitivity is None else [sensitivity])


def scored_layers(
    samples: Sequence[LayerSample], score: str, sensitivities: Sequence[Tensor] | None = None
) -> ScoredLayer:
    """Score and sweep layers of one shape together, as `LayerSample.scored` does.

    Raises:
        NonFiniteError: a weight or an activation is NaN or infinite.
    """
    weight, norms = (
        _stacked(each) for each in zip(*((one.weight, one.input_norm) for one in samples), strict=True)
    )
    score_of = SCORES[score]
    scores = score_of(weight[0], norms[0])[None] if len(samples) == 1 else torch.vmap(score_of)(weight, norms)
    vectors = tuple(each.inputs.shape[1] for each in samples)
    equal = min(vectors) == max(vectors)
    if equal:
        inputs = _stacked([each.inputs for each in samples])
    else:  # padded with zeros
        columns = [each.inputs.t() for each in samples]
        inputs = nn.utils.rnn.pad_sequence(columns, batch_first=True).transpose(1, 2).contiguous()
    names = [each.name for each in samples]
    curves = curves_of_layers(weight, inputs, scores, names, None if equal else vectors)
    rows = scores.flatten(0, 1)
    sensitivity = None if sensitivities is None else torch.cat(list(sensitivities)).to(rows.device)
    return ScoredLayer(curves, rows, sensitivity)


def _stacked(values: Sequence[Tensor]) -> Tensor:
    """Stack tensors along a new first dimension; a single one becomes a view."""
    return values[0][None] if len(values) == 1 else torch.stack(list(values))


def capture(
    model: Model,
    windows: Tensor,
    layers: Iterable[str] = ("*",),
    *,
    vectors_per_sequence: int = 2,
    input_vectors: str = INPUT_VECTORS[0],
    seed: int = 0,
    also: Iterable[str] = (),
    products: bool = False,
    progress: ProgressListener | None = None,
    partial: Callable[[dict[str, LayerSample]], None] | None = None,
) -> dict[str, LayerSample]:
    """Run the dense model over the windows once, and return the inputs of the chosen layers.

    They are cached under a fingerprint of the model, the windows and the settings, so that a layer captured before
    costs no forward pass. If the cache cannot be written, the result is still complete, and a `CacheWarning` says so.

    Args:
        model: from `load_model`.
        windows: (windows, length) int64 tokens, from `load_corpus`; all of them are real, none is padding.
        layers: names or shell patterns.
        vectors_per_sequence: how many input vectors are kept of each window; L is this times the windows.
        input_vectors: "random", or "last": those of the last tokens of each window, as the TRIM authors take.
        seed: the seed of the random positions.
        also: further layers to cache if a forward pass is needed anyway.
        products: whether to sum up the products of all tokens too, (N, N) of each layer; these are not cached.
        progress: called at each block of each forward pass.
        partial: called with the samples so far after 8 windows, 16, 32 and so on; does not change the result.

    Raises:
        LayerNotFoundError: a pattern matches nothing.
        SettingsError: tokens outside the vocabulary, more vectors than a window has tokens, or, with products, fewer
            tokens than a layer has inputs.
        CorpusError: windows longer than the model reads at once.
        NonFiniteError: a layer receives NaN or infinity; the message names it.
        NotEnoughMemoryError: not even one window at a time fits into the device's memory.
    """
    names = model.select(layers)
    calibration = Calibration.of(
        windows, vectors_per_sequence=vectors_per_sequence, input_vectors=input_vectors, seed=seed
    )
    _check_windows(model, windows)
    if products:
        calibration.require_tokens(
            {name: (model.layers[name].out_features, model.layers[name].in_features) for name in names}
        )
    folder = _cache_entry(model, windows, calibration.positions)
    files = {name: folder / f"{name}.safetensors" for name in model.layers}
    inputs = {}
    if not products:
        inputs = {name: found for name in names if (found := load_entry(files[name], _parse))}
    missing = [name for name in names if name not in inputs]
    if missing:

        def show(listener: InputListener, windows: int) -> None:
            if partial is None:
                return
            received = listener.received(missing, windows)
            if all(each.inputs.shape[1] for each in received.values()):  # each expert has received a token
                with torch.inference_mode(False):  # the listener runs in the caller's mode
                    partial({name: _sample(model, name, received[name]) for name in missing})

        def capture_some(chosen: list[str]) -> dict[str, LayerInputs]:
            received, _ = halving(
                lambda batch: _forward(model, calibration, chosen, batch, products, progress, show),
                default_batch(calibration, model.device, CPU_PASS_TOKENS),
                model.device,
                f"one window of {calibration.length:,} tokens at a time fills the memory of {model.device}; use "
                "shorter windows or fewer layers, load the model in a narrower type, or choose another device",
            )
            return received

        wanted = model.select({*missing, *also})
        try:
            received = capture_some(wanted)
        except NonFiniteError:
            if len(wanted) == len(missing):
                raise
            received = capture_some(missing)  # perhaps only a later layer overflows
        store((files[name], content) for name, content in _packed(received, progress))
        inputs |= received
    return {name: _sample(model, name, inputs[name]) for name in names}


def load_cached_capture(
    model: Model,
    windows: Tensor,
    layers: Iterable[str],
    *,
    vectors_per_sequence: int = 2,
    seed: int = 0,
) -> dict[str, LayerSample] | None:
    """Return the result of `capture` if it is cached completely; None: a forward pass is needed."""
    calibration = Calibration.of(windows, vectors_per_sequence=vectors_per_sequence, seed=seed)
    folder = _cache_entry(model, windows, calibration.positions)
    samples = {}
    for name in model.select(layers):
        received = load_entry(folder / f"{name}.safetensors", _parse)
        if received is None:
            return None
        samples[name] = _sample(model, name, received)
    return samples


def _sample(model: Model, name: str, received: LayerInputs) -> LayerSample:
    """Join a layer's weight and its inputs, on the model's device."""
    if not received.inputs.shape[1]:
        raise SettingsError(
            f"{name} receives no token of the calibration text: none is routed to this expert; use more windows, or "
            "another text"
        )
    return LayerSample(
        name,
        model.layers[name].weight.detach(),
        received.inputs.to(model.device),
        received.input_norm.to(model.device),
        received.text,
    )


def _check_windows(model: Model, windows: Tensor) -> None:
    if windows.is_floating_point() or windows.dtype == torch.bool:
        raise SettingsError(f"windows must hold token numbers (int64), not {windows.dtype}")
    check_length(model.title, model.longest_window, windows.shape[1])
    table = cast(nn.Embedding, model.module.get_input_embeddings())  # transformers says only: a module
    vocabulary = table.num_embeddings
    if int(windows.min()) < 0 or int(windows.max()) >= vocabulary:
        raise SettingsError(
            f"the windows hold token numbers outside the vocabulary of {model.title} (0 to {vocabulary - 1:,}); cut "
            "the text with the tokenizer of this model"
        )


@torch.inference_mode()
def _forward(
    model: Model,
    calibration: Calibration,
    names: list[str],
    batch: int,
    products: bool,
    progress: ProgressListener | None,
    show: Callable[[InputListener, int], None],
) -> dict[str, LayerInputs]:
    """Run the model up to the last needed block, in batches; `show` receives the listener and the windows so far."""
    windows = calibration.windows
    request = ProductsRequest() if products else None
    listener = InputListener(calibration, {name: model.layers[name] for name in names}, request)
    last = max(block_index(name) for name in names)
    meter, next_partial = Meter(progress, of=windows), FIRST_WINDOWS
    part = slice(0)

    def entered(index: int, *_: object) -> None:
        done = part.start + (part.stop - part.start) * index / (last + 1)
        meter.report(f"Reading the calibration text: {part.start} of {windows} windows", done)

    with contextlib.ExitStack() as hooks:
        for index, block in enumerate(model.blocks[: last + 1]):
            hooks.enter_context(block.register_forward_pre_hook(functools.partial(entered, index)))
        for start in range(0, windows, batch):
            part = slice(start, min(start + batch, windows))
            with listener.listening(part):
                model.module(calibration.tokens[part].to(model.device), use_cache=False)
            meter.report(f"Reading the calibration text: {part.stop} of {windows} windows", part.stop)
            if next_partial <= part.stop < windows:
                show(listener, part.stop)
                next_partial = 2 * part.stop
    return {
        name: LayerInputs(
            received.inputs.cpu(), received.input_norm.cpu(), received.text, tokens=received.tokens
        )
        for name, received in listener.received().items()
    }


def _cache_entry(model: Model, windows: Tensor, positions: Tensor) -> Path:
    """Return the cache folder of these settings; its name depends on everything that changes the result."""
    settings = {
        "model": [model.fingerprint, model.weights_key],
        "dtype": str(model.dtype),
        "device": model.device.type,
        "windows": fingerprint({"tokens": windows.tolist()}),
        "positions": fingerprint({"positions": positions.tolist()}),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return entry_path("captures", settings)


def _parse(content: bytes) -> LayerInputs:
    tensors = safetensors.torch.load(content)
    tokens = tensors.get("tokens")
    return LayerInputs(
        tensors["inputs"], tensors["input_norm"], tokens=None if tokens is None else int(tokens)
    )


def _packed(
    received: dict[str, LayerInputs], progress: ProgressListener | None
) -> Iterator[tuple[str, bytes]]:
    """Yield the content of the file of each layer, and report the progress of their storing."""
    meter = Meter(progress, of=len(received))
    for number, (name, layer) in enumerate(received.items()):
        if number and number % STORED_AT_ONCE == 0:
            meter.report(f"Storing the inputs of {len(received):,} layers", number)
        yield name, _pack(layer)


def _pack(received: LayerInputs) -> bytes:
    tensors = {"inputs": received.inputs, "input_norm": received.input_norm}
    if received.tokens is not None:
        tensors["tokens"] = torch.tensor(received.tokens)
    return safetensors.torch.save(tensors)
