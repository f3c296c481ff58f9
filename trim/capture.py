"""What a layer receives from a calibration text: feature norms over all tokens, and some input vectors."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trim.cache import cache_folder, fingerprint, shrink_to_limit
from trim.errors import NonFiniteError, SettingsError, ShapeError
from trim.models import Model

BATCH_TOKENS = (
    4096  # tokens in one forward pass: enough to keep two cores or a GPU busy, little enough for both
)


@dataclass(frozen=True, eq=False)
class LayerSample:
    """One layer and what it received.

    Attributes:
        name: such as "15.mlp.gate_proj".
        weight: (D, N).
        inputs: (N, L), L vectors at random positions of the calibration windows.
        input_norm: (N,) float32, √(Σ x_j² over all tokens / sequences).
    """

    name: str
    weight: Tensor = field(repr=False)
    inputs: Tensor = field(repr=False)
    input_norm: Tensor = field(repr=False)


CaptureProgress = Callable[[int, int], None]


def capture(
    model: Model,
    windows: Tensor,
    layers: Iterable[str] = ("*",),
    *,
    vectors_per_sequence: int = 2,
    seed: int = 0,
    also: Iterable[str] = (),
    progress: CaptureProgress | None = None,
) -> dict[str, LayerSample]:
    """Run the dense model over the windows once, and keep what the chosen layers received.

    What was captured stays in the cache under a fingerprint of the model, the windows and the settings, so that a
    layer captured before costs no forward pass.

    Args:
        model: from `load_model`.
        windows: (sequences, length) int64 tokens, from `load_corpus`.
        layers: names or shell patterns.
        vectors_per_sequence: how many input vectors are kept of each window; L is this times the sequences.
        seed: decides at which positions.
        also: further layers to put into the cache if a forward pass is needed anyway.
        progress: told how many of how many windows have been read.

    Raises:
        LayerNotFoundError: a pattern matches nothing.
        SettingsError: more vectors asked for than a window has tokens.
        NonFiniteError: a layer receives NaN or infinity; the message names it.
    """
    names = model.select(layers)
    if windows.ndim != 2 or 0 in windows.shape:
        raise ShapeError(
            f"windows must be (sequences, length) tokens and not empty, not {tuple(windows.shape)}"
        )
    if not 1 <= vectors_per_sequence <= windows.shape[1]:
        raise SettingsError(
            f"between 1 and {windows.shape[1]} input vectors can be kept of a window of {windows.shape[1]} tokens, "
            f"not {vectors_per_sequence}"
        )
    folder = _cache_entry(model, windows, vectors_per_sequence, seed)
    kept = {name: received for name in names if (received := _read(folder / f"{name}.safetensors"))}
    missing = [name for name in names if name not in kept]
    if missing:
        positions = _positions(windows, vectors_per_sequence, seed)
        swept = model.select({*missing, *also})
        for name, received in _sweep(model, windows, swept, positions, progress).items():
            _write(folder / f"{name}.safetensors", received)
            if name in missing:
                kept[name] = received
        shrink_to_limit(keep=folder)
    return {
        name: LayerSample(
            name,
            model.layers[name].weight.detach(),
            kept[name]["inputs"].to(model.device),
            kept[name]["input_norm"].to(model.device),
        )
        for name in names
    }


def _positions(windows: Tensor, vectors_per_sequence: int, seed: int) -> Tensor:
    """Distinct random positions in each window, ascending, (sequences, vectors_per_sequence)."""
    order = torch.rand(windows.shape, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return order[:, :vectors_per_sequence].sort(dim=1).values


class _Received:
    """Running statistics of what the layers receive; layers called with the same tensor share one of them."""

    def __init__(self) -> None:
        self.shared_with: dict[str, str] = {}
        self.squares: dict[str, Tensor] = {}
        self.vectors: dict[str, list[Tensor]] = {}
        self.positions: Tensor | None = None
        self._last: tuple[Tensor, str] | None = None

    def begin_batch(self, positions: Tensor) -> None:
        """The next calls belong to windows of which the vectors at `positions` (sequences, V) are kept."""
        self.positions, self._last = positions, None

    def receive(self, name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """A forward pre-hook of the layer of that name."""
        (inputs,) = arguments
        if self._last is not None and self._last[0] is inputs:
            self.shared_with[name] = self._last[1]
            return
        self._last = (inputs, name)
        self.shared_with[name] = name
        flat = inputs.reshape(-1, inputs.shape[-1])
        squares = flat.float().square().sum(dim=0, dtype=torch.float64)
        self.squares[name] = self.squares[name] + squares if name in self.squares else squares
        sequences = len(self.positions)
        by_sequence = flat.view(sequences, -1, flat.shape[-1])
        rows = torch.arange(sequences, device=flat.device)[:, None]
        picked = by_sequence[rows, self.positions.to(flat.device)]
        self.vectors.setdefault(name, []).append(picked.reshape(-1, flat.shape[-1]).cpu())


class _LastBlockDone(Exception):  # noqa: N818 (no error)
    """Ends a forward pass as soon as no chosen layer is left to come."""


def _end_forward(module: nn.Module, arguments: tuple, output: object) -> None:
    raise _LastBlockDone


@contextlib.contextmanager
def _listening(model: Model, names: list[str], received: _Received) -> Iterator[None]:
    """Hooks on the chosen layers and behind the last block that holds one of them, gone on any exit."""
    last = max(int(name.split(".")[0]) for name in names)
    hooks = [
        model.layers[name].register_forward_pre_hook(functools.partial(received.receive, name))
        for name in names
    ]
    hooks.append(model.blocks[last].register_forward_hook(_end_forward))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def _sweep(
    model: Model, windows: Tensor, names: list[str], positions: Tensor, progress: CaptureProgress | None
) -> dict[str, dict[str, Tensor]]:
    sequences, length = windows.shape
    received = _Received()
    batch = max(1, BATCH_TOKENS // length)
    with _listening(model, names, received):
        for start in range(0, sequences, batch):
            part = slice(start, start + batch)
            received.begin_batch(positions[part])
            with contextlib.suppress(_LastBlockDone):
                model.module(windows[part].to(model.device), use_cache=False)
            if progress:
                progress(min(start + batch, sequences), sequences)
    statistics = {}
    for name in set(received.shared_with.values()):
        norm = (received.squares[name] / sequences).sqrt().float().cpu()
        if not bool(torch.isfinite(norm).all()):
            raise NonFiniteError(
                f"{name} receives NaN or infinite activations from the calibration text; check the checkpoint, or "
                "load the model in a wider type (float32 instead of float16)"
            )
        statistics[name] = {"inputs": torch.cat(received.vectors[name]).T.contiguous(), "input_norm": norm}
    return {name: statistics[received.shared_with[name]] for name in names}


def _cache_entry(model: Model, windows: Tensor, vectors_per_sequence: int, seed: int) -> Path:
    """The folder of these settings in the cache; everything that changes what is captured is in its name."""
    settings = {
        "model": model.fingerprint,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "windows": fingerprint({"tokens": windows.tolist()}),
        "vectors_per_sequence": vectors_per_sequence,
        "seed": seed,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return cache_folder() / "captures" / fingerprint(settings)


def _read(path: Path) -> dict[str, Tensor] | None:
    """A layer's file in the cache; None where there is none. A damaged one is removed, to be captured again."""
    if not path.exists():
        return None
    try:
        received = load_file(path)
        os.utime(path.parent)  # recently used
    except (SafetensorError, OSError):
        path.unlink(missing_ok=True)
        return None
    return received


def _write(path: Path, received: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(received, temporary)
    os.replace(temporary, path)
