"""The tensors of a model by its own names, from files that may name, split or join them otherwise."""

import copy
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trim.errors import ModelError
from trim.models.architecture import TransposedLinear
from trim.models.tensor_files import TensorFiles

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.core_model_loading import WeightConverter


@dataclass
class _Conversion:
    """Tensors of the files that become others of the model.

    Attributes:
        rule: how `transformers` converts them.
        target: the first of the model's names.
        sources: names in the files, each with the rule's pattern for it.
    """

    rule: "WeightConverter"
    target: str
    sources: list[tuple[str, str]] = field(default_factory=list)

    def convert(self, module: "PreTrainedModel", tensors: Iterator[Tensor]) -> dict[str, Tensor]:
        """Convert the sources' tensors, given in order, to the model's, by name."""
        rule = copy.deepcopy(self.rule)
        for (name, pattern), tensor in zip(self.sources, tensors, strict=True):
            read: Future[Tensor] = Future()
            read.set_result(tensor)
            rule.add_tensor(self.target, name, pattern, read)
        found = rule.convert(self.target, model=module, config=module.config)
        return {name: made[0] if isinstance(made, list) else made for name, made in found.items()}


class ModelTensors:
    """The tensors that a model is made of, found in files as `transformers` finds them while it loads.

    Checkpoints of the bare model leave out the prefix of its place in the causal model, some name their weights as an
    older version or another library does, and of parameters that are tied, such as the embedding table and the output
    head, some hold only one.
    """

    def __init__(self, module: "PreTrainedModel", files: TensorFiles) -> None:
        """Match the names; no weights are read.

        Raises:
            ModelError: the files lack a tensor of the model, or hold one of another shape.
        """
        self._module, self._files = module, files
        self._tied = _tied_names(module)
        self._names, conversions = _matched(module, files)
        self._converted: dict[str, _Conversion] = {}
        shapes = {name: files.places[stored].shape for name, stored in self._names.items()}
        for conversion in conversions:
            places = (files.places[name] for name, _ in conversion.sources)
            empty = (torch.empty(place.shape, dtype=place.dtype, device="meta") for place in places)
            try:
                made = conversion.convert(module, empty)
            except Exception as error:  # as many kinds as there are conversions
                raise self._misfit(conversion.target, "parts that do not fit each other") from error
            self._converted |= dict.fromkeys(made, conversion)
            shapes |= {name: tuple(tensor.shape) for name, tensor in made.items()}
        parts = list(module.named_modules())
        self._transposed = {f"{path}.weight" for path, part in parts if isinstance(part, TransposedLinear)}
        for name in self._transposed & shapes.keys():
            shapes[name] = shapes[name][::-1]
        expected = {name: tuple(held[leaf].shape) for _, held, leaf, name in named_tensors(parts)}
        if missing := [name for name in expected if self._held_as(name) not in shapes]:
            raise ModelError(
                f"the safetensors in {files.folder} lack {len(missing)} of the model's weights, such as {missing[0]}; "
                "get them again from where the model comes from"
            )
        for name, shape in expected.items():
            if (found := shapes[self._held_as(name)]) != shape:
                raise self._misfit(name, f"the shape {found} instead of {shape}")

    def is_transposed(self, name: str) -> bool:
        """Return whether the files hold a tensor transposed."""
        return name in self._transposed

    def name_in_files(self, name: str) -> str | None:
        """Find what the files call a tensor; None where it is made of others or of a part of one."""
        return self._names.get(self._held_as(name))

    def read(self, name: str, *, pinned: bool = False) -> Tensor:
        """Read one tensor, in host memory and in the type of the file.

        Args:
            name: the model's.
            pinned: in memory that a GPU can copy from while both go on.

        Raises:
            ModelError: a file has become shorter.
        """
        own = self._held_as(name)
        if own in self._transposed:
            weight = self._files.read(self._names[own]).t().contiguous()
            return weight.pin_memory() if pinned else weight
        if own in self._names:
            return self._files.read(self._names[own], pinned=pinned)
        conversion = self._converted[own]
        made = conversion.convert(
            self._module, (self._files.read(stored) for stored, _ in conversion.sources)
        )[own]
        return made.pin_memory() if pinned else made

    def _held_as(self, name: str) -> str:
        """Return the name, of those of a tied tensor, under which the files hold it."""
        names = [name, *self._tied.get(name, [])]
        return next((own for own in names if own in self._names or own in self._converted), name)

    def _misfit(self, name: str, found: str) -> ModelError:
        return ModelError(
            f"the weights in {self._files.folder} do not fit its config.json: {name} has {found}; get both again from "
            "where the model comes from"
        )


def named_tensors(parts: list[tuple[str, nn.Module]]) -> Iterator[tuple[nn.Module, dict, str, str]]:
    """Yield modules' parameters and stored buffers: module, the dict that holds it, key there, name in the model."""
    for prefix, part in parts:
        for held in (part._parameters, part._buffers):
            for leaf, tensor in held.items():
                if tensor is not None and leaf not in part._non_persistent_buffers_set:
                    yield part, held, leaf, f"{prefix}.{leaf}" if prefix else leaf


def _matched(module: "PreTrainedModel", files: TensorFiles) -> tuple[dict[str, str], list[_Conversion]]:
    """Map the model's names to those in the files, and find what has to be converted."""
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
    prefix, known = module.base_model_prefix, module.state_dict()
    names: dict[str, str] = {}
    conversions: dict[str, _Conversion] = {}
    for stored in sorted(files.places, key=dot_natural_key):
        name, pattern = rename_source_key(stored, renamings, converters, prefix, known)
        if name not in known and stored in known:  # renamed although it has the model's own name
            name, pattern = rename_source_key(stored, [], [], prefix, known)
        if name in known and pattern is None:
            names.setdefault(name, stored)
        elif name in known and pattern is not None:
            conversion = conversions.setdefault(name, _Conversion(by_pattern[pattern], name))
            conversion.sources.append((stored, pattern))
    return names, list(conversions.values())


def _tied_names(module: nn.Module) -> dict[str, list[str]]:
    """List the other names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name: [other for other in group if other != name] for group in names.values() for name in group}
