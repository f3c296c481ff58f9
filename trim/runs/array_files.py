"""Write named arrays into one file as safetensors does, without a second copy of them in memory."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from trim.files import atomic_file

# The types that runs hold, as safetensors names them, in the order in which it lays them: the widest first.
_TYPES = {"float64": "F64", "float32": "F32", "int32": "I32", "float16": "F16", "uint8": "U8", "bool": "BOOL"}
PIECE_BYTES = 2**22
_PLACES = {name: place for place, name in enumerate(_TYPES)}


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> tuple[int, str]:
    """Write a file that is complete or absent, and return its size in bytes and its sha256.

    Hashing and writing release the interpreter lock, so that another thread keeps a GPU busy.

    Raises:
        RunError: it cannot be written.
    """
    ordered = sorted(arrays, key=lambda name: (_PLACES[arrays[name].dtype.name], name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in ordered:
        value, begin = arrays[name], end
        end += value.nbytes
        kind = _TYPES[value.dtype.name]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with atomic_file(path) as file:
        head = len(text).to_bytes(8, "little") + text
        flat = (np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data for name in ordered)
        for piece in _pieces(itertools.chain([head], flat)):
            digest.update(piece)
            file.write(piece)
    return len(head) + end, digest.hexdigest()


def _pieces(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Join small parts: a thread waits for its turn after each piece, and experts have thousands of arrays."""
    piece: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        piece.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)
