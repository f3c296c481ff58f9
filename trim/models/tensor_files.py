"""The safetensors files of a model folder, read and rewritten one tensor at a time.

Tensors are read into memory of their own. The usual reader maps whole files as private memory, which counts against
a data limit, so that a model larger than that limit could not be opened with it.

Format: https://github.com/huggingface/safetensors#format: eight bytes with the length of a JSON header, the header,
the tensors.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trim.cache import fingerprint
from trim.errors import ModelError
from trim.models.checkpoint import weight_paths

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies: its file, first byte and length in bytes, and what its bytes mean."""

    path: Path
    start: int
    length: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class TensorFiles:
    """All tensors of a model folder by name.

    Attributes:
        folder: the model folder.
        files: its safetensors files, in order.
        places: where each tensor lies.
    """

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            ModelError: no safetensors in the folder, one that the index names is missing, or a damaged one.
        """
        self.folder = folder
        self.files = weight_paths(folder)
        self.places: dict[str, TensorPlace] = {}
        for path in self.files:
            self.places |= _places(path)

    @property
    def main_dtype(self) -> torch.dtype:
        """The type of most of the bytes."""
        sizes: dict[torch.dtype, int] = {}
        for place in self.places.values():
            sizes[place.dtype] = sizes.get(place.dtype, 0) + place.length
        return max(sizes, key=sizes.__getitem__, default=torch.float32)

    def read(self, name: str, *, pinned: bool = False) -> Tensor:
        """One tensor, in host memory and in the type of the file.

        Args:
            name: as in the files.
            pinned: in memory that a GPU can copy from while both go on.

        Raises:
            ModelError: no such tensor, or the file has become shorter.
        """
        if name not in self.places:
            raise ModelError(f"{self.folder} holds no weights named {name!r}; its checkpoint is not complete")
        place = self.places[name]
        tensor = torch.empty(place.shape, dtype=place.dtype, pin_memory=pinned)
        with place.path.open("rb") as file:
            file.seek(place.start)
            buffer = tensor.view(-1).view(torch.uint8).numpy().data if place.length else b""
            if place.length and file.readinto(buffer) != place.length:
                raise ModelError(f"{place.path} is cut short; download or copy the model again")
        return tensor

    def fingerprint(self) -> str:
        """Changes when the configuration or any tensor changes: every header, and some bytes of each tensor."""
        config = (self.folder / "config.json").read_bytes()
        digests = {"config": hashlib.sha256(config).hexdigest()}
        for path in self.files:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                digest.update(file.read(length))
                for place in self.places.values():
                    if place.path == path:
                        file.seek(place.start + max(0, place.length - _SAMPLE_BYTES) // 2)
                        digest.update(file.read(min(_SAMPLE_BYTES, place.length)))
            digests[path.name] = digest.hexdigest()
        return fingerprint(digests)


def read_header(path: Path) -> tuple[dict, int]:
    """A file's JSON header, and where its tensors begin.

    Raises:
        ModelError: no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError("its header is cut short")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
    except (OSError, ValueError, struct.error) as error:
        raise ModelError(f"{path} is damaged ({error}); download or copy the model again") from error
    return header, 8 + length


def _places(path: Path) -> dict[str, TensorPlace]:
    header, data = read_header(path)
    size = path.stat().st_size
    places = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            start, end = entry["data_offsets"]
            dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{path}: {name} is of a type that cannot be pruned ({error}); quantized models have to be widened "
                "to float16 or float32 first"
            ) from error
        if data + end > size or end - start != torch.Size(shape).numel() * dtype.itemsize:
            raise ModelError(
                f"{path} is damaged: {name} does not fit in it; download or copy the model again"
            )
        places[name] = TensorPlace(path, data + start, end - start, dtype, shape)
    return places


def weights_key(files: TensorFiles) -> dict:
    """What changes whenever the weights of a model may have changed, as plain JSON."""
    return {
        "fingerprint": files.fingerprint(),
        "files": [[path.stat().st_size, path.stat().st_mtime_ns] for path in files.files],
    }
