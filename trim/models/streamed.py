"""A model of which one block at a time is in memory: a skeleton without weights, filled from safetensors.

The weights outside its blocks are in memory only while the text is embedded.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from trim.devices import choose_dtype, half_is_free
from trim.errors import ModelError
from trim.models.architecture import blueprint, compute_buffers, find_blocks
from trim.models.checkpoint import name_model_in_errors, read_config
from trim.models.conversions import StoredTensor
from trim.models.experts import routers
from trim.models.fusion import fused
from trim.models.tensor_files import TensorFiles
from trim.models.tensor_names import Chunk, ModelTensors, named_tensors
from trim.models.towers import other_towers, output_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

READERS = 4  # threads that prefetch: a single one is too slow for a block of many experts


class StreamedModel:
    """A causal language model on disk.

    Attributes:
        folder: where its files are.
        files: its tensors.
        module: the `transformers` model in eval mode; its buffers hold data, its parameters do not.
        blocks: its transformer blocks, in order.
        layers: (D, N) of each linear layer inside the blocks, by names such as "15.mlp.gate_proj".
        routers: the names of the layers that route tokens to experts.
        device, dtype: the device on which, and the type in which it computes.
    """

    @name_model_in_errors
    def __init__(self, folder: Path, *, device: torch.device, dtype: str | None = None) -> None:
        """Read the configuration and the headers, no weights.

        Args:
            folder: `config.json` and safetensors.
            device: where to compute.
            dtype: the name of the type in which to compute; None: the choice of `devices.choose_dtype`.

        Raises:
            ModelError: damaged or missing files, or an architecture that cannot be pruned.
        """
        self.folder = folder
        self.files = TensorFiles(folder)
        self.device = device
        self._last_block = -1
        self._keeping = False
        self._kept: dict[str, Tensor] = {}
        self.module = _skeleton(folder, dtype, device, self.files.main_dtype)
        self.dtype = next(self.module.parameters()).dtype
        self.blocks = find_blocks(self.module)
        self._used_blocks = len(self.blocks)
        self.routers = routers(self.blocks)
        self._tensors = ModelTensors(self.module, self.files)
        self._prefetcher = Prefetcher(self._tensors, device)
        inside = {id(part) for block in self.blocks for part in block.modules()}
        inside |= {id(part) for part in other_towers(self.module, self.blocks)}
        names = {id(part): name for name, part in self.module.named_modules()}
        self._prefixes = [names[id(block)] for block in self.blocks]
        self._outside = [(name, part) for name, part in self.module.named_modules() if id(part) not in inside]
        self.layers = {
            f"{index}.{path}": (layer.out_features, layer.in_features)
            for index, block in enumerate(self.blocks)
            for path, layer in block.named_modules()
            if isinstance(layer, nn.Linear)
        }
        for layer in self.layers:
            self.stored(layer)

    @property
    def reads_ahead(self) -> bool:
        """Whether the next block is read while one computes; on a CPU the computation would wait for it."""
        return self.device.type == "cuda"

    def stored(self, layer: str) -> list[StoredTensor]:
        """Find where the files hold a layer's weight, or its rows.

        Raises:
            ModelError: the files hold it in another form.
        """
        if not (places := self._tensors.places(self._own_name(layer))):
            raise ModelError(
                f"the files in {self.folder} hold {layer} in a form in which it cannot be written back; load the "
                "model with transformers and save it with save_pretrained(…, save_original_format=False) first"
            )
        return places

    def weight(self, layer: str) -> Tensor:
        """Read a layer's weight in the type of the files, (D, N), in host memory."""
        return self._tensors.read(self._own_name(layer))

    def _own_name(self, layer: str) -> str:
        index, _, path = layer.partition(".")
        return f"{self._prefixes[int(index)]}.{path}.weight"

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Cache on the GPU the weights of blocks used inside the `with` block, while half of its memory is free.

        Weights must not be changed inside the `with` block. The next use of a block removes it from the cache.
        """
        self._keeping = self.device.type == "cuda"
        try:
            yield
        finally:
            self._keeping = False

    def release(self, *, after: int = -1) -> None:
        """Release cached weights: by default of all blocks, and what was prefetched.

        `after`: only those of the blocks after this one, which are not prefetched from now on.
        """
        if after < 0:
            self._prefetcher.release()
        else:
            self._used_blocks = after + 1
        for index in range(after + 1, len(self.blocks)):
            for *_, name in named_tensors(self._parts(index)):
                self._kept.pop(name, None)

    @contextlib.contextmanager
    def block(self, index: int) -> Iterator[nn.Module]:
        """Hold a block's weights on the device inside the `with` block; `keeping` may cache them afterwards.

        On a GPU the next block is prefetched: the one after it, or before it where blocks are read backwards. The
        operations between the block's matrix products are fused there (`trim.models.fusion`).
        """
        parts = self._parts(index)
        self._request(parts)
        ahead = index + (1 if index == 0 or index >= self._last_block else -1)
        self._last_block = index
        with self._filled(parts), fused(self.blocks[index], self.device):
            self.prefetch(ahead)
            try:
                yield self.blocks[index]
            except BaseException:
                self._prefetcher.release()
                raise
            if self._keeping and half_is_free(self.device):
                self._kept |= {name: held[leaf].data for _, held, leaf, name in named_tensors(parts)}

    def prefetch(self, index: int) -> None:
        """Begin to read a block's weights, if the block is used and a GPU computes meanwhile."""
        if 0 <= index < self._used_blocks:
            self._request(self._parts(index))

    def _request(self, parts: list[tuple[str, nn.Module]]) -> None:
        if self.reads_ahead:
            names = (name for *_, name in named_tensors(parts))
            self._prefetcher.request([name for name in names if name not in self._kept])

    @contextlib.contextmanager
    def embedding(self) -> Iterator[nn.Module]:
        """Hold everything outside the model's blocks, except for the output head."""
        head = output_head(self.module)
        with self._filled([(name, part) for name, part in self._outside if part is not head]):
            yield self.module

    @contextlib.contextmanager
    def outside(self) -> Iterator[nn.Module]:
        """Hold everything outside the model's blocks, including the output head."""
        head, table = cast(nn.Module, output_head(self.module)), self.module.get_input_embeddings()
        places = {id(part): name for name, part in self._outside}
        # If the files hold both, transformers gives the head its own weight, even if config.json ties them.
        stored = [self._tensors.places(f"{places[id(part)]}.weight") for part in (head, table)]
        tied = head.weight is table.weight and stored[0] == stored[1]
        parts = [(name, part) for name, part in self._outside if part is head]
        with self.embedding() as module, self._filled(parts, but="weight" if tied else ""):
            empty = head.weight
            if tied:
                head.weight = table.weight
            try:
                yield module
            finally:
                head.weight = empty

    def _parts(self, index: int) -> list[tuple[str, nn.Module]]:
        block, prefix = self.blocks[index], self._prefixes[index]
        return [(f"{prefix}.{path}" if path else prefix, part) for path, part in block.named_modules()]

    @contextlib.contextmanager
    def _filled(self, parts: list[tuple[str, nn.Module]], but: str = "") -> Iterator[None]:
        """Load the modules' weights inside the `with` block, except those named `but`."""
        empty: list[tuple[dict, str, Tensor]] = []
        try:
            for part, held, leaf, name in named_tensors(parts):
                if leaf == but:
                    continue
                tensor, loaded = held[leaf], self._kept.pop(name, None)
                if loaded is None:
                    loaded = self._prefetcher.take(name)
                # Even a call of `to` that changes nothing waits for its turn with other threads.
                if (loaded.device, loaded.dtype) != (self.device, tensor.dtype):
                    loaded = loaded.to(self.device, non_blocking=True).to(tensor.dtype)
                empty.append((held, leaf, tensor))
                held[leaf] = nn.Parameter(loaded, False) if held is part._parameters else loaded
            yield
        finally:
            for held, leaf, tensor in empty:
                held[leaf] = tensor


def _skeleton(
    folder: Path, dtype: str | None, device: torch.device, checkpoint: torch.dtype
) -> "PreTrainedModel":
    """Build the model of a folder's configuration: parameters on the meta device, buffers computed as usual."""
    config = read_config(folder)
    config.dtype = choose_dtype(dtype, checkpoint, device)
    module = blueprint(config)
    module.eval().requires_grad_(False)
    compute_buffers(module, device)
    return module


class Prefetcher:
    """Reads tensors ahead, onto a GPU if half of its memory stays free, else into memory from which it copies fastest.

    A new request releases the tensors of the last one, so that at most one block's weights wait here.
    """

    def __init__(self, tensors: ModelTensors, device: torch.device) -> None:
        self._tensors, self._device = tensors, device
        # On a stream of their own weights go to the GPU while it computes.
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._reader = ThreadPoolExecutor(READERS, thread_name_prefix="trim-read")
        self._coming: dict[str, Future[_Arrived]] = {}

    def request(self, names: list[str]) -> None:
        """Begin to read; the tensors of the last request are released, unless they are the same."""
        if set(names) == set(self._coming):
            return
        self.release()
        chunks = self._tensors.chunks(names)
        size = sum(place.length for chunk in chunks for place in chunk.values() if place is not None)
        copying = self._copying if self._copying and half_is_free(self._device, after_bytes=size) else None
        for chunk in chunks:
            self._coming |= dict.fromkeys(chunk, self._reader.submit(self._read, chunk, copying))

    def take(self, name: str) -> Tensor:
        """Return a tensor in the type of the file; read it now if it was not requested.

        Raises:
            ModelError: as `ModelTensors.read`.
        """
        coming = self._coming.pop(name, None)
        if coming is None:
            return self._tensors.read(name)
        try:
            return coming.result().take(name)
        except BaseException:
            self.release()  # the others that were read with it failed too
            raise

    def release(self) -> None:
        """Release the requested tensors."""
        for coming in self._coming.values():
            coming.cancel()
        self._coming = {}

    def _read(self, chunk: Chunk, copying: torch.cuda.Stream | None) -> "_Arrived":
        if copying is None:
            return _Arrived(self._tensors.read_chunk(chunk, pinned=self._device.type == "cuda"))
        with torch.cuda.stream(copying):
            tensors = self._tensors.read_chunk(chunk, pinned=True, onto=self._device)
            return _Arrived(tensors, copying.record_event())


@dataclass
class _Arrived:
    """Tensors that were read together; `copied`: when they are on the GPU, until a stream waits for it."""

    tensors: dict[str, Tensor]
    copied: torch.cuda.Event | None = None

    def take(self, name: str) -> Tensor:
        """Return a tensor for the current stream, which all tensors are then for: they share their memory."""
        tensor = self.tensors[name]
        if self.copied is not None and tensor.is_cuda:
            stream = torch.cuda.current_stream(tensor.device)
            stream.wait_event(self.copied)
            tensor.record_stream(stream)
            self.copied = None
        return tensor
