"""The header of a GGUF file, read in a fraction of a second.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trim.errors import ModelError

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
# How `struct` reads the number of each type of a value.
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_FLOATS = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
_MAX_DIMENSIONS = 8
_MAX_ELEMENTS_PER_BYTE = 8  # the smallest types hold five
_MAX_ARRAY_ITEMS = 4096  # longer arrays are never settings

Value = int | float | str | tuple[int | float, ...] | None


@dataclass(frozen=True)
class GgufTensor:
    """The place of a tensor in a GGUF file: its first byte, its type by number, and its shape in torch's order."""

    start: int
    kind: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        path: the file.
        metadata: its key-value pairs; for an array of strings, or a long array, only the number of its entries.
        tensors: its tensors by name.
    """

    path: Path
    metadata: dict[str, Value] = field(repr=False)
    tensors: dict[str, GgufTensor] = field(repr=False)

    @property
    def file(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def architecture(self) -> str:
        """llama.cpp's name, such as "llama" or "qwen2"."""
        return str(self.metadata["general.architecture"])

    @property
    def name(self) -> str:
        """The model's name; empty where the file has none."""
        return str(self.metadata.get("general.name", ""))

    @property
    def parameters(self) -> int:
        """The number of elements in all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    def count(self, key: str, default: int = 0) -> int:
        """Read a whole number.

        Raises:
            ModelError: it is something else.
        """
        value = self.metadata.get(key, default)
        if not isinstance(value, int):
            raise ModelError(f"{self.file} is damaged: its field {key} is {value!r}; download it again")
        return value

    def tensor(self, name: str) -> GgufTensor:
        """Return the place of a tensor.

        Raises:
            ModelError: there is none of that name.
        """
        if name not in self.tensors:
            raise ModelError(f"{self.file} lacks the weights {name}; download or convert it again")
        return self.tensors[name]

    def floats(self, name: str) -> Tensor:
        """Read a tensor that is not quantized, as float32.

        Raises:
            ModelError: there is none of that name, or it is quantized.
        """
        tensor = self.tensor(name)
        if tensor.kind not in _FLOATS:
            raise ModelError(
                f"{self.file} holds {name} quantized; convert the model again with a current llama.cpp"
            )
        dtype = _FLOATS[tensor.kind]
        with self.path.open("rb") as file:
            file.seek(tensor.start)
            content = bytearray(file.read(math.prod(tensor.shape) * dtype.itemsize))
        return torch.frombuffer(content, dtype=dtype).float().view(tensor.shape)


def read_gguf_header(path: Path, *, partly: bool = False) -> GgufHeader:
    """Read a GGUF file's header.

    Args:
        path: the file.
        partly: whether the header of a file that ends too early is read too.

    Raises:
        ModelError: the file cannot be read, is not a GGUF file, or ends too early.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic != MAGIC:
                raise ModelError(
                    f"{path.name} is not a GGUF file: it begins with {magic!r} instead of {MAGIC!r}; a download that "
                    "failed may have left a web page under this name, and safetensors are loaded by their folder"
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _parse(path, content, partly)
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}; check the path") from error
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); give the path of a GGUF file that you may read"
        ) from error
    except (struct.error, OverflowError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise ModelError(cut_short(path)) from error


def cut_short(path: Path) -> str:
    """Return the message that a file was cut short or is damaged."""
    return f"{path.name} is damaged or was not downloaded to its end; download it again"


def _parse(path: Path, content: mmap.mmap, partly: bool) -> GgufHeader:
    """Parse the header at the beginning of a file; a `ValueError` or `struct.error` means that it is damaged."""
    reader = _Reader(content)
    version, tensors, entries = reader.integer("<I"), reader.integer("<Q"), reader.integer("<Q")
    if version not in (2, 3):
        raise ModelError(
            f"this GGUF file has format version {version:,}, and TRIM Lab reads 2 and 3 (little-endian); convert the "
            "model again with a current llama.cpp"
        )
    metadata: dict[str, Value] = {}
    for _ in range(entries):
        key = reader.string()
        metadata[key] = reader.value(reader.integer("<I"))
    if "general.architecture" not in metadata:
        raise ValueError("it names no architecture")
    found = []
    for _ in range(tensors):
        name = reader.string()
        if (dimensions := reader.integer("<I")) > _MAX_DIMENSIONS:
            raise ValueError("a tensor has more dimensions than any")
        sizes = [reader.integer("<Q") for _ in range(dimensions)]
        kind, offset = reader.integer("<I"), reader.integer("<Q")
        found.append((name, tuple(reversed(sizes)), kind, offset))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError("its tensors begin nowhere")
    begin = -(-reader.position // alignment) * alignment
    places = {name: GgufTensor(begin + offset, kind, shape) for name, shape, kind, offset in found}
    if not partly and max((place.start for place in places.values()), default=0) > len(content):
        raise ValueError("the last tensor begins after the end of the file")
    header = GgufHeader(path, metadata, places)
    if not partly and header.parameters > _MAX_ELEMENTS_PER_BYTE * len(content):
        raise ValueError("its tensors would be larger than the file")
    if header.count(f"{header.architecture}.block_count") > len(places):
        raise ValueError("it has fewer tensors than blocks")
    return header


class _Reader:
    """A cursor over the header. Running over the end raises struct.error."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.position = content, len(MAGIC)

    def integer(self, form: str) -> int:
        return int(self.number(form))

    def number(self, form: str) -> int | float:
        value: int | float
        (value,) = struct.unpack_from(form, self.content, self.position)
        self.position += struct.calcsize(form)
        return value

    def string(self) -> str:
        start = self._skip_string()
        return self.content[start : self.position].decode()

    def _skip_string(self) -> int:
        """Skip a string; return where its text begins."""
        length = self.integer("<Q")
        start = self.position
        self.position += length
        if self.position > len(self.content):
            raise ValueError("a text runs over the end of the file")
        return start

    def value(self, kind: int) -> Value:
        """Read a value; for an array of strings, or a long array, only its length: a vocabulary has 100,000 entries."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        kind, length = self.integer("<I"), self.integer("<Q")
        if kind == _STRING:
            for _ in range(length):
                self._skip_string()
        elif length <= _MAX_ARRAY_ITEMS:
            return tuple(self.number(_SCALARS[kind]) for _ in range(length))
        else:
            self.position += length * struct.calcsize(_SCALARS[kind])
        return length
