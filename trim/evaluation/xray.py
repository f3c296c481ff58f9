"""Examine what pruning did to a checkpoint, from its files alone: headers, and one tensor at a time."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trim.errors import ModelError
from trim.methods.agreement import iou
from trim.methods.gini import gini
from trim.methods.masks import keep_mask
from trim.methods.pattern import Pattern
from trim.methods.scores import magnitude_score, ranks_of, score_order
from trim.models.source import locate, weights_folder
from trim.models.tensor_files import TensorFiles
from trim.progress import Meter, ProgressListener

GROUPS = (4, 8, 16)  # sizes m in which patterns are looked for
PATTERN_SHARE = 0.95  # of the groups must have the pattern's number of zeros; chance gives 38% at 2:4
_ROWS_NUMBERS = 2**24  # numbers that are looked at at once
# As bitsandbytes, compressed-tensors and others, and GPTQ and AWQ, call the codes of a layer.
_CODES = re.compile(r"(?P<layer>.+)\.(?:weight|weight_packed|qweight)")
_NAME = re.compile(r"(?P<stack>(?:.*?\.)?)(?P<block>\d+)\.(?P<path>.+?)(?:\.weight)?")


@dataclass(frozen=True)
class PatternFit:
    """The n:m pattern that a layer's zeros follow.

    Attributes:
        pattern: n zeros in every m neighbours of a row.
        groups: how many groups the layer has.
        broken: how many of them have fewer than n zeros.
        first: row and column where the first of these begins; None: there is none.
    """

    pattern: Pattern
    groups: int
    broken: int
    first: tuple[int, int] | None


@dataclass(frozen=True)
class ParentComparison:
    """A layer compared with the same layer of the model that it was made from.

    Attributes:
        zeros_before: zeros of the parent.
        revived: weights that are zero in the parent and are not here.
        changed: the share of the kept weights that differ.
        moved: ‖W − P‖ / ‖P‖ over the kept weights.
        magnitude: the share of weights that both keep (intersection over union), with the mask that takes the
            smallest weights of each row at the same counts.
    """

    zeros_before: int
    revived: int
    changed: float
    moved: float
    magnitude: float


@dataclass(frozen=True, eq=False)
class LayerXray:
    """The zeros of one layer.

    Attributes:
        name: such as "15.mlp.gate_proj"; an expert of a joined tensor has its number at the end, in brackets.
        tensor: its name in the files.
        shape: D and N.
        dtype: the type in the file.
        row_zeros: (D,) int64.
        column_zeros: (N,) int64.
        gini: (D,) float64 of the magnitudes of the kept weights; NaN for a row without any.
        not_finite: how many weights are NaN or infinite.
        fit: the pattern that its zeros follow; None: none.
        parent: the comparison with the parent; None: there is none, or it has no such layer.
    """

    name: str
    tensor: str
    shape: tuple[int, int]
    dtype: str
    row_zeros: np.ndarray = field(repr=False)
    column_zeros: np.ndarray = field(repr=False)
    gini: np.ndarray = field(repr=False)
    not_finite: int
    fit: PatternFit | None
    parent: ParentComparison | None

    @property
    def weights(self) -> int:
        """D · N."""
        return self.shape[0] * self.shape[1]

    @property
    def zeros(self) -> int:
        """Return how many weights are zero."""
        return int(self.row_zeros.sum())

    @property
    def sparsity(self) -> float:
        """Return the share of zeros."""
        return self.zeros / self.weights

    @property
    def dead_rows(self) -> int:
        """Return how many rows are zero throughout."""
        return int((self.row_zeros == self.shape[1]).sum())

    @property
    def dead_columns(self) -> int:
        """Return how many columns are zero throughout."""
        return int((self.column_zeros == self.shape[0]).sum())

    @property
    def median_gini(self) -> float:
        """Return the median over the rows that keep a weight; NaN where none does."""
        known = self.gini[~np.isnan(self.gini)]
        return float(np.median(known)) if len(known) else float("nan")


@dataclass(frozen=True, eq=False)
class Xray:
    """The zeros of a checkpoint.

    Attributes:
        title: the checkpoint's title.
        parent: the title of the model that it was made from; None: not given.
        layers: the matrices of its blocks, in the order of the blocks.
        bytes_on_disk: size of its safetensors files.
        bytes_packed: their size if layers stored no zeros, but one bit a weight for which are kept.
        others: how many tensors are not matrices of blocks (embeddings, norms, biases, the output head).
        strangers: layers that the parent lacks, or has in another shape.
        quantized: the types of layers whose numbers are codes, by name; nothing is known of their weights.
    """

    title: str
    parent: str | None
    layers: tuple[LayerXray, ...]
    bytes_on_disk: int
    bytes_packed: int
    others: int
    strangers: tuple[str, ...]
    quantized: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> int:
        """Return how many weights the layers have."""
        return sum(layer.weights for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Return the share of zeros over all layers."""
        return sum(layer.zeros for layer in self.layers) / self.weights

    @cached_property
    def pattern(self) -> Pattern | None:
        """The pattern that every layer with zeros follows; None: they follow several, or some none."""
        found = {None if layer.fit is None else layer.fit.pattern for layer in self.layers if layer.zeros}
        return found.pop() if len(found) == 1 else None


def xray(
    checkpoint: str | Path,
    parent: str | Path | None = None,
    *,
    progress: ProgressListener | None = None,
) -> Xray:
    """Find out how a checkpoint was pruned: its zeros by layer, row and column, its pattern, and what it would save.

        trim.xray("somebody/pruned-llama", parent="meta-llama/Llama-2-7b-hf").sparsity

    No model is built and no text is read: of any architecture the matrices of the blocks are read one by one, in the
    memory of the largest tensor.

    Args:
        checkpoint: a folder with safetensors, a Hub id, a GGUF file (dequantized first) or "demo".
        parent: the model that it was made from, likewise.
        progress: called at each layer; an exception from it ends the work.

    Raises:
        ModelError: a checkpoint cannot be downloaded or read, is quantized throughout, or has no blocks of matrices.
    """
    listen = progress or (lambda now: None)
    source = locate(checkpoint)
    files = TensorFiles(weights_folder(source, listen), quantized=True)
    other = None if parent is None else locate(parent)
    parents = None if other is None else TensorFiles(weights_folder(other, listen), quantized=True)
    names, quantized = layer_names(files), quantized_layers(files)
    if not names and quantized:
        kinds = ", ".join(sorted(set(quantized.values())))
        raise ModelError(
            f"all {len(quantized):,} layers of {files.folder} are quantized (type {kinds}): their "
            "numbers are codes, of which 0 is not a weight of 0; X-ray the checkpoint that they were made from"
        )
    if not names:
        raise ModelError(
            f"{files.folder} has no blocks: none of its {len(files.places):,} tensors is a matrix with the number of "
            "a block in its name, such as model.layers.0.mlp.up_proj.weight"
        )
    meter = Meter(progress, sum(files.places[tensor].length for tensor in names))
    layers: list[LayerXray] = []
    strangers = []
    for tensor, name in names.items():
        meter.report(f"Reading {name}")
        before = None
        if parents is not None:
            place = parents.places.get(tensor)
            if place is not None and place.shape == files.places[tensor].shape:
                before = parents.read(tensor)
            else:
                strangers.append(name)
        layers += _examined(tensor, name, files.read(tensor), before)
        meter.report(f"Reading {name}", meter.done + files.places[tensor].length)
    stored = sum(path.stat().st_size for path in files.files)
    saved = sum(_saved_bytes(layer, files.places[layer.tensor].dtype.itemsize) for layer in layers)
    return Xray(
        source.title,
        None if other is None else other.title,
        tuple(layers),
        stored,
        stored - saved,
        len(files.places) + len(files.quantized) - len(names) - len(quantized),
        tuple(strangers),
        quantized,
    )


def layer_names(files: TensorFiles) -> dict[str, str]:
    """Name the matrices of a checkpoint's blocks, in the order of the blocks, by their names in the files.

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
        tensor: str(place.dtype).removeprefix("torch.")
        for tensor, place in files.places.items()
        if not place.dtype.is_floating_point
    }
    codes = {tensor: match["layer"] for tensor in kinds if (match := _CODES.fullmatch(tensor))}
    of_layers = {f"{layer}.weight": kinds[tensor] for tensor, layer in codes.items()}
    return {name: of_layers[tensor] for tensor, name in _named(of_layers).items()}


def _named(tensors: Iterable[str]) -> dict[str, str]:
    found = [
        (match["stack"], int(match["block"]), match["path"], tensor)
        for tensor in tensors
        if (match := _NAME.fullmatch(tensor))
    ]
    stacks = Counter(stack for stack, *_ in found)
    largest = max(stacks, key=stacks.__getitem__, default="")
    return {
        tensor: f"{'' if stack == largest else stack}{block}.{path}"
        for stack, block, path, tensor in sorted(found, key=lambda each: (each[0] != largest, *each))
    }


def _saved_bytes(layer: LayerXray, itemsize: int) -> int:
    """Return what a layer's zeros cost on the disk, beyond the bit a weight that says where they are; never below 0."""
    return max(layer.zeros * itemsize - -(-layer.weights // 8), 0)


def _examined(tensor: str, name: str, weights: Tensor, parents: Tensor | None) -> Iterator[LayerXray]:
    """Examine a matrix, or each of several that are one tensor (E, D, N)."""
    if weights.dim() == 2:
        yield _examine(tensor, name, weights, parents)
        return
    for expert, weight in enumerate(weights):
        yield _examine(tensor, f"{name}[{expert}]", weight, None if parents is None else parents[expert])


def _examine(tensor: str, name: str, weight: Tensor, parent: Tensor | None) -> LayerXray:
    rows, columns = weight.shape
    row_zeros, column_zeros = np.empty(rows, np.int64), np.zeros(columns, np.int64)
    concentration = np.empty(rows)
    grouped = {size: np.zeros(size + 1, np.int64) for size in GROUPS if columns % size == 0}
    not_finite, compared = 0, _Compared()
    step = max(1, _ROWS_NUMBERS // columns)
    for top in range(0, rows, step):
        part = weight[top : top + step].float()
        finite = part.isfinite().numpy()
        missing = finite.size - int(np.count_nonzero(finite))
        if missing:  # kept weights of no known size
            part = part.masked_fill(torch.from_numpy(~finite), 1.0)
            not_finite += missing
        zero = (part == 0).numpy()
        zeros = np.count_nonzero(zero, axis=1)
        row_zeros[top : top + step] = zeros
        column_zeros += np.count_nonzero(zero, axis=0)
        concentration[top : top + step] = _kept_gini(part, zeros)
        for size, counted in grouped.items():
            inside = _zeros_of_groups(zero, size)
            counted += [np.count_nonzero(inside == number) for number in range(size + 1)]
        if parent is not None:
            compared.add(part, zero, zeros, parent[top : top + step].float().nan_to_num(1.0, 1.0, -1.0))
    return LayerXray(
        name,
        tensor,
        (rows, columns),
        str(weight.dtype).removeprefix("torch."),
        row_zeros,
        column_zeros,
        concentration,
        not_finite,
        _fit(weight, grouped),
        None if parent is None else compared.result(),
    )


def _zeros_of_groups(zero: np.ndarray, size: int) -> np.ndarray:
    """Count the zeros of each group of neighbours, (D, N / size) uint8."""
    flags = zero.view(np.uint8)
    found: np.ndarray = sum((flags[:, place::size] for place in range(1, size)), start=flags[:, ::size])
    return found


def _kept_gini(weight: Tensor, zeros: np.ndarray) -> np.ndarray:
    """Compute the Gini coefficient of each row's K kept weights from that of the row: K · G_K = N · G_N − zeros."""
    columns = weight.shape[1]
    kept = columns - zeros
    found = np.full(len(zeros), np.nan)
    some = kept > 0
    found[some] = (columns * gini(weight.abs()).numpy()[some] - zeros[some]) / kept[some]
    return found.clip(min=0.0)


def _fit(weight: Tensor, grouped: dict[int, np.ndarray]) -> PatternFit | None:
    """Find the pattern of the smallest groups that nearly all of them follow."""
    for size, counted in grouped.items():
        zeros, groups = int(counted.argmax()), int(counted.sum())
        if not 0 < zeros < size or counted[zeros] < PATTERN_SHARE * groups:
            continue
        broken = int(counted[:zeros].sum())
        first = None
        if broken:
            short = _zeros_of_groups((weight == 0).numpy(), size) < zeros
            row, group = np.unravel_index(int(short.argmax()), short.shape)
            first = int(row), int(group) * size
        return PatternFit(Pattern(zeros, size), groups, broken, first)
    return None


@dataclass
class _Compared:
    """Sums over the rows of a layer and of its parent."""

    zeros_before: int = 0
    revived: int = 0
    kept: int = 0
    changed: int = 0
    difference: float = 0.0
    energy: float = 0.0
    both: int = 0
    either: int = 0

    def add(self, weight: Tensor, zero: np.ndarray, zeros: np.ndarray, parent: Tensor) -> None:
        """Add some rows."""
        before, kept = (parent == 0).numpy(), ~zero
        changed = kept & (weight != parent).numpy()
        self.zeros_before += int(np.count_nonzero(before))
        self.revived += int(np.count_nonzero(before & kept))
        self.kept += int(np.count_nonzero(kept))
        if changed.any():
            moved = (weight - parent).numpy()[changed]
            self.changed += moved.size
            self.difference += float(np.square(moved, dtype=np.float64).sum())
        self.energy += float(np.square(parent.numpy()[kept], dtype=np.float64).sum())
        smallest = keep_mask(ranks_of(score_order(magnitude_score(parent))), torch.from_numpy(zeros)).numpy()
        self.both += int(np.count_nonzero(smallest & kept))
        self.either += int(np.count_nonzero(smallest | kept))

    def result(self) -> ParentComparison:
        """Return the comparison; a layer that keeps nothing agrees with every mask."""
        return ParentComparison(
            self.zeros_before,
            self.revived,
            self.changed / self.kept if self.kept else 0.0,
            (self.difference / self.energy) ** 0.5 if self.energy else 0.0,
            float(iou(self.both, self.either)),
        )
