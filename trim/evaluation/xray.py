"""Find out how a checkpoint was pruned, from its files alone: headers, and one tensor at a time."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from trim.devices import dtype_name
from trim.errors import ModelError
from trim.evaluation.xray_layer import LayerXray, Rows, examine_tensor
from trim.methods.pattern import Pattern
from trim.models.safetensors_header import TensorPlace
from trim.models.source import locate, readable_files
from trim.models.tensor_files import TensorFiles
from trim.progress import Meter, ProgressListener

# Names of a layer's quantized codes: bitsandbytes; compressed-tensors and others; GPTQ and AWQ.
_CODES = re.compile(r"(?P<layer>.+)\.(?:weight|weight_packed|qweight)")
_NAME = re.compile(r"(?P<stack>(?:.*?\.)?)(?P<block>\d+)\.(?P<path>.+?)(?:\.weight)?")


@dataclass(frozen=True, eq=False)
class Xray:
    """The zeros of a checkpoint.

    Attributes:
        title: the checkpoint's title.
        parent: the title of the model that it was made from; None: not given.
        layers: the matrices of its blocks, in the order of the blocks.
        bytes_on_disk: size of its safetensors files.
        bytes_packed: their size if layers stored only the kept weights, and a mask of one bit a weight.
        others: number of tensors that are not matrices of blocks (embeddings, norms, biases, the output head).
        unmatched: layers that the parent lacks, or has in another shape.
        quantized: the types of quantized layers by name; their numbers are codes, so their zeros are not known.
        damaged: a message for each file that is missing, damaged or cut short.
        lost: the tensors that cannot be read because of that, as far as their names are known.
    """

    title: str
    parent: str | None
    layers: tuple[LayerXray, ...]
    bytes_on_disk: int
    bytes_packed: int
    others: int
    unmatched: tuple[str, ...]
    quantized: Mapping[str, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """Return the number of weights of all layers."""
        return sum(layer.weights for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Return the share of zeros over all layers."""
        return sum(layer.zeros for layer in self.layers) / self.weights

    @cached_property
    def pattern(self) -> Pattern | None:
        """The n:m pattern that all layers with zeros have in common; None: there is no such pattern."""
        patterns = {None if layer.fit is None else layer.fit.pattern for layer in self.layers if layer.zeros}
        return patterns.pop() if len(patterns) == 1 else None


def xray(
    checkpoint: str | Path,
    parent: str | Path | None = None,
    *,
    progress: ProgressListener | None = None,
) -> Xray:
    """Find out how a checkpoint was pruned: its zeros by layer, row and column, its pattern, and the bytes to save.

        trim.xray("somebody/pruned-llama", parent="meta-llama/Llama-2-7b-hf").sparsity

    This builds no model and reads no text, so it works for any architecture: it reads the matrices of the blocks one by
    one, some rows at a time.

    Args:
        checkpoint: a folder with safetensors, a Hub id, a GGUF file (dequantized first) or "demo".
        parent: the model that it was made from, in the same forms.
        progress: called at each part of a layer; an exception from it ends the work.

    Raises:
        ModelError: a checkpoint cannot be downloaded or read, is quantized throughout, or has no blocks of matrices.
    """
    listen = progress or (lambda now: None)
    source = locate(checkpoint)
    files = readable_files(source, listen)
    other = None if parent is None else locate(parent)
    parents = None if other is None else readable_files(other, listen)
    names, quantized = layer_names(files), quantized_layers(files)
    if not names and quantized:
        kinds = ", ".join(sorted(set(quantized.values())))
        raise ModelError(
            f"all {len(quantized):,} layers of {files.folder} are quantized (type {kinds}): their "
            "numbers are codes, of which 0 is not a weight of 0; X-ray the checkpoint that they were made from"
        )
    if not names and files.damaged:
        raise ModelError(f"no layer can be read: {files.damaged[0]}")
    if not names:
        raise ModelError(
            f"{files.folder} has no blocks: none of its {len(files.places):,} tensors is a matrix with the number of "
            "a block in its name, such as model.layers.0.mlp.up_proj.weight"
        )
    meter = Meter(progress, sum(files.places[tensor].length for tensor in names))
    layers: list[LayerXray] = []
    unmatched = []
    for tensor, name in names.items():
        place, before = files.places[tensor], None
        if parents is not None:
            other_place = parents.places.get(tensor)
            if other_place is not None and other_place.shape == place.shape:
                before = _row_reader(parents, tensor)
            else:
                unmatched.append(name)
        done = meter.done + place.length
        read = _with_progress(_row_reader(files, tensor), name, place, meter)
        layers += examine_tensor(tensor, name, place.shape, read, before)
        meter.report(f"Reading {name}", done)
    stored = sum(path.stat().st_size for path in files.files)
    saved = sum(_saved_bytes(layer, files.places[layer.tensor].dtype.itemsize) for layer in layers)
    return Xray(
        source.title,
        None if other is None else other.title,
        tuple(layers),
        stored,
        stored - saved,
        len(files.places) + len(files.quantized) - len(names) - len(quantized),
        tuple(unmatched),
        quantized,
        tuple(files.damaged),
        tuple(files.lost),
    )


def _row_reader(files: TensorFiles, tensor: str) -> Rows:
    """Return a reader of the rows of a matrix; a tensor (E, D, N) is read as a matrix of E · D rows."""
    columns = files.places[tensor].shape[-1]
    return lambda top, bottom: files.read(tensor, top * columns, (bottom - top, columns))


def _with_progress(rows: Rows, name: str, place: TensorPlace, meter: Meter) -> Rows:
    """Return a reader of rows that reports its progress before each read."""
    begin, width = meter.done, place.length // math.prod(place.shape[:-1])

    def read(top: int, bottom: int) -> Tensor:
        meter.report(f"Reading {name}", max(meter.done, begin + top * width))
        return rows(top, bottom)

    return read


def layer_names(files: TensorFiles) -> dict[str, str]:
    """Return the layer name of each matrix of a checkpoint's blocks by its name in the files, in order of the blocks.

    Where the files hold several stacks of blocks, the names of all but the largest begin with their stack.
    """
    return _named(
        tensor
        for tensor, place in files.places.items()
        if (len(place.shape) == 3 or (len(place.shape) == 2 and tensor.endswith(".weight")))
        and min(place.shape) > 1
        and place.dtype.is_floating_point
    )


def quantized_layers(files: TensorFiles) -> dict[str, str]:
    """Return the types of the layers whose numbers are codes, by the layers' names."""
    kinds = files.quantized | {
        tensor: dtype_name(place.dtype)
        for tensor, place in files.places.items()
        if not place.dtype.is_floating_point
    }
    codes = {tensor: match["layer"] for tensor in kinds if (match := _CODES.fullmatch(tensor))}
    of_layers = {f"{layer}.weight": kinds[tensor] for tensor, layer in codes.items()}
    return {name: of_layers[tensor] for tensor, name in _named(of_layers).items()}


def _named(tensors: Iterable[str]) -> dict[str, str]:
    """Return the layer name of each tensor of a block, such as "15.mlp.gate_proj", in the order of the blocks."""
    parts = [
        (match["stack"], int(match["block"]), match["path"], tensor)
        for tensor in tensors
        if (match := _NAME.fullmatch(tensor))
    ]
    stacks = Counter(stack for stack, *_ in parts)
    largest = max(stacks, key=stacks.__getitem__, default="")
    return {
        tensor: f"{'' if stack == largest else stack}{block}.{path}"
        for stack, block, path, tensor in sorted(parts, key=lambda each: (each[0] != largest, *each))
    }


def _saved_bytes(layer: LayerXray, itemsize: int) -> int:
    """Return the bytes that a layer's zeros take on the disk, less one bit a weight for the mask; at least 0."""
    return max(layer.zeros * itemsize - -(-layer.weights // 8), 0)
