"""The tensors of a model by its own names, from files that may name, split or join them differently."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trim.errors import ModelError
from trim.models.conv1d import TransposedLinear
from trim.models.conversions import Conversion, StoredTensor, match_tensors
from trim.models.experts import POST_NORM, Experts, MatrixPart, matrix_of
from trim.models.safetensors_header import TensorPlace
from trim.models.tensor_files import TensorFiles, joined_in_chunks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tensors by the model's names that are read at once, with their places; None: it is made of several.
Chunk = Mapping[str, TensorPlace | None]


class ModelTensors:
    """The tensors of a model, found in files by the rules of `transformers`.

    Checkpoints of the bare model lack the prefix of its place in the causal model. Some name their weights as an older
    version or another library does. Some hold only one of several tied parameters, such as the embedding table and the
    output head. Experts may be separate, or joined in one tensor for a block.
    """

    def __init__(self, module: "PreTrainedModel", files: TensorFiles) -> None:
        """Match the names; no weights are read.

        Raises:
            ModelError: the files lack a tensor of the model, or hold one of another shape.
        """
        self._module, self._files = _Joined(module), files
        self._tied = _tied_names(module)
        names, conversions = match_tensors(self._module.tensors, module, files)
        self._stored = {
            name: [StoredTensor(stored, 0, files.places[stored].shape, MatrixPart(stored))]
            for name, stored in names.items()
        }
        self._converted: dict[str, Conversion] = {}
        # The joined tensor, the number of the expert, how many experts there are, and the part.
        self._parts: dict[str, tuple[str, int, int, MatrixPart | None]] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for conversion in conversions:
            places = (files.places[name] for name, _ in conversion.sources)
            empty = (torch.empty(place.shape, dtype=place.dtype, device="meta") for place in places)
            try:
                made = conversion.convert(self._module, empty)
            except Exception as error:  # each conversion raises its own
                raise self._misfit(conversion.target, "parts that do not fit each other") from error
            if stored := conversion.places(made, files):
                self._stored |= stored
            else:
                self._converted |= dict.fromkeys(made, conversion)
            shapes |= {name: tuple(tensor.shape) for name, tensor in made.items()}
        parts = list(module.named_modules())
        for path, part in parts:
            if isinstance(part, TransposedLinear) and (held := self._stored.get(f"{path}.weight")):
                self._stored[f"{path}.weight"] = [replace(held[0], part=MatrixPart(held[0].name, True))]
            if isinstance(part, Experts):
                self._split(path, part, shapes)
        shapes |= {name: stored[0].own_shape for name, stored in self._stored.items() if len(stored) == 1}
        expected = {name: tuple(held[leaf].shape) for _, held, leaf, name in named_tensors(parts)}
        if missing := [name for name in expected if self._held_as(name) not in shapes]:
            raise ModelError(
                f"the safetensors in {files.folder} lack {len(missing)} of the model's weights, such as {missing[0]}; "
                "get them again from where the model comes from"
            )
        for name, shape in expected.items():
            if (found := shapes[self._held_as(name)]) != shape:
                raise self._misfit(name, f"the shape {found} instead of {shape}")

    def _split(self, path: str, experts: Experts, shapes: dict[str, tuple[int, ...]]) -> None:
        """Find the tensors of a block's experts, which the files hold joined or separately.

        Raises:
            ModelError: the shape of a joined tensor does not fit the configuration.
        """
        for name, empty in experts.joined.items():
            joined, own_shape = f"{path}.{name}", tuple(empty.shape)
            found = self._stored[joined][0].shape if joined in self._stored else shapes.get(joined)
            if found is not None and found != own_shape:
                raise self._misfit(joined, f"the shape {found} instead of {own_shape}")
        for leaf, part in experts.parts.items():
            joined = f"{path}.{part.joined}"
            shape = tuple(matrix_of(experts.joined[part.joined], experts.count, 0).shape)
            whole = self._stored.get(joined)
            made = self._converted.get(joined)
            places = [] if made is None else made.expert_places(joined, part, experts, self._files)
            for number in range(experts.count):
                own = f"{path}.{number}.{leaf}"
                if whole is not None:
                    self._stored[own] = [StoredTensor(whole[0].name, number * math.prod(shape), shape, part)]
                elif places:
                    self._stored[own] = [places[number]]
                elif made is not None:
                    self._parts[own] = (joined, number, experts.count, part)
                    shapes[own] = tuple(part.of(torch.empty(shape, device="meta")).shape)

    def places(self, name: str) -> list[StoredTensor]:
        """Find where the files hold a tensor, or its rows; empty where it is computed from other tensors."""
        return self._stored.get(self._held_as(name), [])

    def chunks(self, names: Iterable[str]) -> list[Chunk]:
        """Join tensors that `read_chunk` reads at once."""
        places = {name: self._place(name) for name in names}
        whole = {name: place for name, place in places.items() if place is not None}
        made: list[Chunk] = [{name: None} for name in places if name not in whole]
        return [*joined_in_chunks(whole), *made]

    def read(self, name: str) -> Tensor:
        """Read one tensor by the model's name, in host memory and in the type of the file.

        Raises:
            ModelError: a file has become shorter.
        """
        return self.read_chunk({name: self._place(name)})[name]

    def read_chunk(
        self, chunk: Chunk, *, pinned: bool = False, onto: torch.device | None = None
    ) -> dict[str, Tensor]:
        """Read one of the `chunks`, as `TensorFiles.read_chunk` does; a tensor that is made stays in host memory."""
        stored = {name: place for name, place in chunk.items() if place is not None}
        if stored:
            return self._files.read_chunk(stored, pinned=pinned, onto=onto)
        made = {name: self._made(self._held_as(name)) for name in chunk}
        return {name: tensor.pin_memory() if pinned else tensor for name, tensor in made.items()}

    def _place(self, name: str) -> TensorPlace | None:
        """Find where the files hold a tensor's numbers in its own order; None: it is made of what they hold."""
        stored = self.places(name)
        if len(stored) != 1:
            return None
        plain = stored[0].plain
        if plain.part.transposed or plain.part.rows != slice(None):
            return None
        return self._files.place(plain.name, plain.offset, plain.shape)

    def _made(self, own: str) -> Tensor:
        """Make a tensor from what the files hold."""
        if stored := self._stored.get(own):
            return torch.cat([self._read(each.plain) for each in stored])
        joined, number, count, part = self._parts.get(own, (own, 0, 1, None))
        conversion = self._converted[joined]
        tensors = (self._files.read(source) for source, _ in conversion.sources)
        made = conversion.convert(self._module, tensors)[joined]
        return made if part is None else part.of(matrix_of(made, count, number)).contiguous()

    def _read(self, stored: StoredTensor) -> Tensor:
        return stored.part.of(self._files.read(stored.name, stored.offset, stored.shape)).contiguous()

    def _held_as(self, name: str) -> str:
        """Return the name under which the files hold a tensor, which may be that of a tied one."""
        names = [name, *self._tied.get(name, [])]
        held = (self._stored, self._converted, self._parts)
        return next((own for own in names if any(own in each for each in held)), name)

    def _misfit(self, name: str, found: str) -> ModelError:
        return ModelError(
            f"the weights in {self._files.folder} do not fit its config.json: {name} has {found}; get both again from "
            "where the model comes from"
        )


class _Joined:
    """A model with joined experts, as its class makes it: the target of the conversions of `transformers`."""

    def __init__(self, module: "PreTrainedModel") -> None:
        self.config = module.config
        self.tensors: dict[str, Tensor] = {}
        paths = [(f"{path}.", part) for path, part in module.named_modules() if isinstance(part, Experts)]
        inside = tuple(path for path, _ in paths)
        for name, tensor in module.state_dict().items():
            if not name.startswith(inside) or POST_NORM in name:
                self.tensors[name] = tensor
        for path, part in paths:
            self.tensors |= {f"{path}{name}": tensor for name, tensor in part.joined.items()}

    def get_parameter(self, name: str) -> Tensor:
        """Return a parameter, which may be on the meta device."""
        return self.tensors[name]


def named_tensors(parts: list[tuple[str, nn.Module]]) -> Iterator[tuple[nn.Module, dict, str, str]]:
    """Yield parameters and stored buffers: their module, the dict that holds them, their key, and their full name."""
    for prefix, part in parts:
        for held in (part._parameters, part._buffers):
            for leaf, tensor in held.items():
                if tensor is not None and leaf not in part._non_persistent_buffers_set:
                    yield part, held, leaf, f"{prefix}.{leaf}" if prefix else leaf


def _tied_names(module: nn.Module) -> dict[str, list[str]]:
    """List the other names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name: [other for other in group if other != name] for group in names.values() for name in group}
