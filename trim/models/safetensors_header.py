"""The header of a safetensors file: which tensors the file holds, and where.

Format: https://github.com/huggingface/safetensors#format: eight bytes with the length of a JSON header, the header,
the tensors.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import torch

from trim.errors import ModelError
from trim.names import one_line

DTYPES = {
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
_MAX_HEADER_BYTES = 32 * 2**20


@dataclass(frozen=True)
class TensorPlace:
    """The place of a tensor: its file, first byte and length in bytes, and the type and shape of its bytes."""

    path: Path
    start: int
    length: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.length


def read_safetensors_header(path: Path) -> tuple[dict, int]:
    """Read a file's JSON header, and where its tensors begin.

    Raises:
        ModelError: not a safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("its header is cut short, or longer than any")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
    except PermissionError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    return header, 8 + length


def find_tensors(
    path: Path, damaged: list[str] | None = None
) -> tuple[dict[str, TensorPlace], dict[str, str], list[str]]:
    """Find the places of a file's tensors, the types of those that cannot be read, and those beyond the file's end.

    The format requires that they fill the file without gaps or overlaps. A file that ends too early is an error, unless
    a list `damaged` is given, which then receives the message.
    """
    header, data = read_safetensors_header(path)
    header.pop("__metadata__", None)
    places, quantized = {}, {}
    for name, entry in header.items():
        try:
            start, end = map(int, entry["data_offsets"])
            kind, shape = entry["dtype"], tuple(map(int, entry["shape"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _damaged(path, f"its header does not describe {one_line(name)}") from error
        if not isinstance(kind, str) or kind not in DTYPES:
            quantized[name] = one_line(str(kind))
        dtype = DTYPES.get(kind, torch.uint8) if isinstance(kind, str) else torch.uint8
        size = end - start if name in quantized else math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or end - start != size or size < 0:
            raise _damaged(path, f"{name} has another size than its shape")
        places[name] = TensorPlace(path, data + start, end - start, dtype, shape)
    filled = data
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].length)):
        if place.start != filled:
            raise _damaged(
                path, f"{name} {'overlaps another tensor' if place.start < filled else 'follows a gap'}"
            )
        filled += place.length
    if filled != (size := path.stat().st_size):
        cut_short = _damaged(path, f"it has {size:,} bytes, and its header describes {filled:,}")
        if damaged is None or filled < size:
            raise cut_short
        damaged.append(str(cut_short))
    cut = [name for name, place in places.items() if place.start + place.length > size]
    for name in cut:
        del places[name]
        quantized.pop(name, None)
    return {name: place for name, place in places.items() if name not in quantized}, quantized, cut


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path} is damaged or was not downloaded to its end ({reason}); get it again from where the model comes from"
    )
