"""Write named arrays into one file as safetensors does, without a second copy of them in memory."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from trim.files import atomic_file

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# The types that runs hold, as safetensors names them, in the order in which it lays them: the widest first.
_NAMES = {"float64": "F64", "float32": "F32", "int32": "I32", "float16": "F16", "uint8": "U8", "bool": "BOOL"}
_TYPES = {np.dtype(name): (rank, kind) for rank, (name, kind) in enumerate(_NAMES.items())}
PIECE_BYTES = 2**22


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> tuple[int, str]:
    """Write a file that is complete or absent, and return its size in bytes and its sha256.

    Hashing and writing release the interpreter lock, so that another thread keeps a GPU busy.

    Raises:
        RunError: it cannot be written.
    """
    ordered = sorted((*_TYPES[value.dtype], name, value) for name, value in arrays.items())
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for _, kind, name, value in ordered:
        begin, end = end, end + value.nbytes
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": (begin, end)}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    with atomic_file(path) as file:
        hashed = _Hashed(file)
        with io.BufferedWriter(hashed, PIECE_BYTES) as out:
            out.write(head)
            for *_, value in ordered:
                out.write(np.ascontiguousarray(value).data)
    return len(head) + end, hashed.digest.hexdigest()


class _Hashed(io.RawIOBase):
    """Writes to a file what it receives, and hashes it.

    It receives large pieces: a thread waits for its turn after each, and experts have thousands of arrays.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, piece: "ReadableBuffer") -> int:
        self.digest.update(piece)
        return self._file.write(piece)
