"""Find weights that files store differently: under other names, joined, split, or converted."""

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from trim.models.experts import Experts, MatrixPart
from trim.models.tensor_files import TensorFiles

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.core_model_loading import WeightConverter

    class ConvertedModel(Protocol):
        """The part of a model that a conversion uses."""

        config: PreTrainedConfig

        def get_parameter(self, name: str) -> Tensor:
            """Return a parameter, which may be on the meta device."""


# The names of the dimensions in the steps of transformers' conversions.
_DIMENSIONS = ("dim", "dim0", "dim1")
# The steps that join separate experts.
_JOINING = {"MergeModulelist", "Concatenate", "ErnieFuseAndSplitTextVisionExperts"}


@dataclass(frozen=True)
class StoredTensor:
    """The location in the files of a tensor of the model, or of some of its rows.

    Attributes:
        name: the name in the files of the tensor that holds it.
        offset: the number of elements of that tensor before the matrix that holds it.
        shape: the shape of that matrix.
        part: the part of that matrix.
        rows: the rows of the model's tensor, where only some of them are stored here.
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    part: MatrixPart
    rows: slice = field(default_factory=lambda: slice(None))

    @property
    def own_shape(self) -> tuple[int, ...]:
        """The shape of the part."""
        return tuple(self.part.of(torch.empty(self.shape, device="meta")).shape)

    @property
    def plain(self) -> "StoredTensor":
        """Return the same place, with only the needed rows as the matrix where they are contiguous in the file."""
        rows = self.part.rows
        if self.part.transposed or rows.step not in (None, 1) or rows == slice(None):
            return self
        first, last, _ = rows.indices(self.shape[0])
        shape = (last - first, *self.shape[1:])
        return replace(
            self,
            offset=self.offset + first * math.prod(self.shape[1:]),
            shape=shape,
            part=MatrixPart(self.part.joined),
        )

    def of(self, tensor: Tensor) -> Tensor:
        """View the rows of the model's tensor that are stored here."""
        return tensor if self.rows == slice(None) else tensor[self.rows]  # a scalar cannot be indexed


@dataclass
class Conversion:
    """Tensors of the files that become others of the model.

    Attributes:
        rule: how `transformers` converts them.
        target: the first of the model's names.
        sources: names in the files, each with the rule's pattern for it.
    """

    rule: "WeightConverter"
    target: str
    sources: list[tuple[str, str]] = field(default_factory=list)

    def convert(self, module: "ConvertedModel", tensors: Iterator[Tensor]) -> dict[str, Tensor]:
        """Convert the sources' tensors, given in order, to the model's, by name."""
        rule = copy.deepcopy(self.rule)
        for (name, pattern), tensor in zip(self.sources, tensors, strict=True):
            read: Future[Tensor] = Future()
            read.set_result(tensor)
            rule.add_tensor(self.target, name, pattern, read)
        found = rule.convert(self.target, model=module, config=module.config)
        return {
            name: converted[0] if isinstance(converted, list) else converted
            for name, converted in found.items()
        }

    def places(self, converted: Mapping[str, Tensor], files: TensorFiles) -> dict[str, list[StoredTensor]]:
        """Find the places of the converted tensors' rows in the files; empty where the files do not hold them as rows.

        Args:
            converted: the model's tensors, on the meta device, in the order of the rule.
            files: the files.
        """
        steps = self._steps()
        row_counts = [(name, tensor.shape[0]) for name, tensor in converted.items() if tensor.ndim]
        if steps == ["Concatenate 0"] and len(row_counts) == 1:
            order = self.rule.source_patterns.index
            names = [name for name, pattern in sorted(self.sources, key=lambda source: order(source[1]))]
            shapes = [files.places[name].shape for name in names]
            rows = _consecutive_slices([shape[0] for shape in shapes])
            return {
                row_counts[0][0]: [
                    StoredTensor(name, 0, shape, MatrixPart(name), part)
                    for name, shape, part in zip(names, shapes, rows, strict=True)
                ]
            }
        if len(self.sources) != 1 or len(row_counts) != len(converted):
            return {}
        stored = self.sources[0][0]
        shape = files.places[stored].shape
        if steps in (["Chunk 0"], ["Split 0"]):
            parts = [
                MatrixPart(stored, rows=part)
                for part in _consecutive_slices([count for _, count in row_counts])
            ]
        elif steps == ["Interleave 0", "Chunk 0"] and len(row_counts) == 2:
            parts = [MatrixPart(stored, rows=slice(half, None, 2)) for half in range(2)]
        elif steps == ["Transpose 0 1"] and len(shape) == 2:
            parts = [MatrixPart(stored, True)]
        else:
            return {}
        return {
            name: [StoredTensor(stored, 0, shape, part)]
            for (name, _), part in zip(row_counts, parts, strict=True)
        }

    def expert_places(
        self, joined: str, part: MatrixPart, experts: Experts, files: TensorFiles
    ) -> list[StoredTensor]:
        """Find each expert's part of the tensor `joined` in the files; empty where the files do not hold it as one."""
        steps, patterns = self._steps(), list(self.rule.source_patterns)
        targets = list(self.rule.target_patterns)
        if {step.partition(" ")[0] for step in steps} <= _JOINING:
            halves = 1 if part.rows == slice(None) else 2
            if part.transposed or part.rows.step not in (None, 1) or len(patterns) != halves:
                return []
            pattern = patterns[1 if part.rows.start else 0]
            names = [name for name, source in self.sources if source == pattern]  # in natural order
            if steps == ["Concatenate 1"] and len(names) == 1:
                return _each_expert(names[0], files.places[names[0]].shape, MatrixPart(names[0]), experts)
            # The files number the experts consecutively over all tensors that the rule makes.
            index = next(n for n, target in enumerate(targets) if target in joined) if len(targets) > 1 else 0
            first = index * -(-len(names) // len(targets))
            places = [
                StoredTensor(name, 0, files.places[name].shape, MatrixPart(name))
                for name in names[first : first + experts.count]
            ]
            return places if len(places) == experts.count else []
        if len(self.sources) != 1:
            return []
        stored = self.sources[0][0]
        shape = files.places[stored].shape
        if steps == ["Transpose 1 2"]:
            swapped = shape != experts.joined[part.joined].shape
            stored_part = replace(part, transposed=part.transposed != swapped)
        elif steps == ["Interleave 1"] and not part.transposed and part.rows.step is None and part.rows.stop:
            stored_part = replace(part, rows=slice(1 if part.rows.start else 0, None, 2))
        else:
            return []
        return _each_expert(stored, shape, stored_part, experts)

    def _steps(self) -> list[str]:
        """Name the rule's steps with their dimensions, such as "Chunk 0"."""
        return [
            " ".join(
                [
                    type(step).__name__,
                    *(f"{getattr(step, name)}" for name in _DIMENSIONS if hasattr(step, name)),
                ]
            )
            for step in self.rule.operations
        ]


def _each_expert(name: str, shape: tuple[int, ...], part: MatrixPart, experts: Experts) -> list[StoredTensor]:
    """Return the places of all experts in a tensor that holds their matrices one after the other."""
    size = math.prod(shape[1:])
    return [StoredTensor(name, expert * size, shape[1:], part) for expert in range(experts.count)]


def _consecutive_slices(sizes: list[int]) -> list[slice]:
    """Return the rows of parts of these sizes that follow each other."""
    ends = itertools.accumulate(sizes)
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def match_tensors(
    tensors: dict[str, Tensor], module: "PreTrainedModel", files: TensorFiles
) -> tuple[dict[str, str], list[Conversion]]:
    """Map the model's names to those in the files, and find the tensors that have to be converted.

    Args:
        tensors: the model's tensors by name, with joined experts.
        module: the model.
        files: the files.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    rules = get_model_conversion_mapping(module)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    prefix = module.base_model_prefix
    names: dict[str, str] = {}
    conversions: dict[str, Conversion] = {}
    for stored in sorted(files.places, key=dot_natural_key):
        name, pattern = rename_source_key(stored, renamings, converters, prefix, tensors)
        if name not in tensors and stored in tensors:  # renamed although it has the model's own name
            name, pattern = rename_source_key(stored, [], [], prefix, tensors)
        if name in tensors and pattern is None:
            names.setdefault(name, stored)
        elif name in tensors and pattern is not None:
            conversion = conversions.setdefault(name, Conversion(by_pattern[pattern], name))
            conversion.sources.append((stored, pattern))
    return names, list(conversions.values())
