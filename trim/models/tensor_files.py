"""The safetensors files of a model folder, of which each tensor can be read alone.

Tensors are read into memory of their own. The usual reader maps whole files as private memory, which counts against a
data limit, so that a model larger than that limit could not be opened with it.
"""

import contextlib
import hashlib
import os
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trim.cache import fingerprint
from trim.checksums import ByteListener, cached_sha256_of_file, checksums
from trim.errors import ModelError
from trim.models.safetensors_header import DTYPES, TensorPlace, find_tensors
from trim.models.weight_files import read_weight_map, weight_files
from trim.progress import ProgressListener

MAX_TENSORS = 100_000  # in one model; the largest mixtures of experts have some 70,000
CHUNK_BYTES = 2**25  # of tensors that are read at once
ALIGNMENT = 256  # bytes; the libraries of a GPU choose other algorithms for tensors that are less aligned
_SAMPLE_BYTES = 4096


class TensorFiles:
    """All tensors of a model folder by name.

    Attributes:
        folder: the model folder.
        files: its safetensors files, in order.
        index: the name of the index of these files; None where one file holds all.
        places: the place of each tensor.
        quantized: the types of tensors that cannot be read as numbers, by name; they are not among the places.
        damaged: a message for each file that is missing, damaged or cut short.
        lost: the known names of the tensors that are missing because of that.
        main_dtype: the type of most of the bytes.
        parameters: the number of elements in all tensors.
    """

    def __init__(self, folder: Path, *, partly: bool = False) -> None:
        """Read the headers.

        Args:
            folder: the model folder.
            partly: whether a folder with quantized weights, or with files that are missing or damaged, is opened too,
                for what else it holds.

        Raises:
            ModelError: no safetensors in the folder, one that the index names is missing, a damaged one, or quantized
                weights.
        """
        self.folder = folder
        names, self.index = weight_files(folder, complete=not partly)
        self.files: list[Path] = []
        self.damaged: list[str] = []
        self.lost: list[str] = []
        self.places: dict[str, TensorPlace] = {}
        self.quantized: dict[str, str] = {}
        self._stamps: dict[Path, tuple[int, ...]] = {}
        for path in (folder / name for name in names):
            try:
                stamp = _stamp(path.stat())
                places, others, cut = find_tensors(path, self.damaged if partly else None)
            except (ModelError, FileNotFoundError) as error:
                if not partly:
                    raise
                self._leave_out(path, error)
                continue
            self.files.append(path)
            self._stamps[path] = stamp
            self.places |= places
            self.quantized |= others
            self.lost += cut
            if others and not partly:
                name, kind = next(iter(others.items()))
                raise ModelError(
                    f"{path}: {name} is quantized (type {kind}), which cannot be pruned; load the checkpoint that it "
                    "was made from"
                )
            if len(self.places) > MAX_TENSORS:
                raise ModelError(
                    f"{folder} holds over {MAX_TENSORS:,} tensors, more than any supported model; choose another model"
                )
        if not self.places and not self.quantized:
            if self.damaged:
                raise ModelError(self.damaged[0])
            raise ModelError(f"{folder} holds safetensors without a single tensor; get them again")
        self.main_dtype = _main_dtype(self.places.values())
        self.parameters = sum(torch.Size(place.shape).numel() for place in self.places.values())
        if not self.main_dtype.is_floating_point and not partly:
            raise ModelError(
                f"the weights in {folder} are quantized (type {_name_of(self.main_dtype)}); load the checkpoint that "
                "they were made from"
            )

    def _leave_out(self, path: Path, error: Exception) -> None:
        """Note that a file is missing or damaged, and which tensors are lost with it."""
        missing = f"{path} is missing; get it from where the model comes from"
        self.damaged.append(str(error) if isinstance(error, ModelError) else missing)
        named = {} if self.index is None else read_weight_map(self.folder / self.index)
        self.lost += [name for name, file in named.items() if self.folder / file == path]

    def place(self, name: str, offset: int = 0, shape: tuple[int, ...] | None = None) -> TensorPlace:
        """Find the place of a tensor, or of a contiguous part of it.

        Args:
            name: as in the files.
            offset: how many elements are skipped.
            shape: the shape of the part; None: the tensor's.

        Raises:
            ModelError: no such tensor.
        """
        self.require(name)
        whole = self.places[name]
        if shape is None:
            return whole
        size = whole.dtype.itemsize
        start, length = whole.start + offset * size, torch.Size(shape).numel() * size
        return replace(whole, start=start, length=length, shape=shape)

    def read(self, name: str, offset: int = 0, shape: tuple[int, ...] | None = None) -> Tensor:
        """Read one tensor, or a contiguous part of it, into host memory in the type of the file.

        Arguments and errors: as for `place` and `read_chunk`.
        """
        return self.read_chunk({name: self.place(name, offset, shape)})[name]

    def read_chunk(
        self, chunk: Mapping[str, TensorPlace], *, pinned: bool = False, onto: torch.device | None = None
    ) -> dict[str, Tensor]:
        """Read tensors that follow each other in a file into one buffer, of which they are views.

        Args:
            chunk: their places in order, as `joined_in_chunks` returns them.
            pinned: whether to use memory from which a GPU copies asynchronously.
            onto: a GPU to which torch's current stream copies them, if its memory suffices.

        Raises:
            ModelError: the file is gone or was written to since it was opened.
        """
        places = list(chunk.values())
        path, begin = places[0].path, places[0].start
        buffer = torch.empty(places[-1].end - begin, dtype=torch.uint8, pin_memory=pinned)
        try:
            with path.open("rb") as file:
                file.seek(begin)
                size = file.readinto(buffer.numpy().data) if len(buffer) else 0
                same = size == len(buffer) and _stamp(os.fstat(file.fileno())) == self._stamps[path]
        except OSError as error:
            raise _unreadable(path, error) from error
        if not same:
            raise ModelError(
                f"{path} was written to while it was in use; put back what it was, or start again"
            )
        if onto is not None:
            with contextlib.suppress(torch.OutOfMemoryError):
                buffer = buffer.to(onto, non_blocking=True)
        return {
            name: buffer[place.start - begin : place.end - begin].view(place.dtype).view(place.shape)
            for name, place in chunk.items()
        }

    def checksums(self, progress: ProgressListener | None = None) -> dict[str, str]:
        """Return the sha256 of each file; read once, then cached until a file's size or time changes.

        Raises:
            ModelError: a file is gone, or cannot be read any more.
        """
        title = "Computing the checksums of the model's files"
        names = [path.relative_to(self.folder).as_posix() for path in self.files]
        return dict(zip(names, checksums(self.files, _checksum, title, progress), strict=True))

    def require(self, name: str) -> None:
        """Require that the folder holds all tensors.

        Raises:
            ModelError: no such tensor.
        """
        if name not in self.places:
            raise ModelError(
                f"{self.folder} holds no weights named {name!r}: its checkpoint is not complete, or names its weights "
                "otherwise than transformers does; get the model again, or save it with transformers' save_pretrained"
            )

    def fingerprint(self) -> str:
        """Compute the identity of the weights, which does not depend on the folder's path.

        Changes when the configuration or any tensor changes: every header, and some bytes of each tensor.
        """
        config = (self.folder / "config.json").read_bytes()
        digests = {"config": hashlib.sha256(config).hexdigest()}
        by_file: dict[Path, list[TensorPlace]] = {path: [] for path in self.files}
        for place in self.places.values():
            by_file[place.path].append(place)
        for path, own in by_file.items():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                digest.update(file.read(length))
                for place in own:
                    file.seek(place.start + max(0, place.length - _SAMPLE_BYTES) // 2)
                    digest.update(file.read(min(_SAMPLE_BYTES, place.length)))
            digests[path.relative_to(self.folder).as_posix()] = digest.hexdigest()
        return fingerprint(digests)


def joined_in_chunks(places: Mapping[str, TensorPlace]) -> list[dict[str, TensorPlace]]:
    """Join tensors that follow each other in a file, so that they are read at once: a block may have hundreds.

    Each tensor of a chunk begins at a multiple of `ALIGNMENT`, as one in memory of its own does.
    """
    chunks: list[dict[str, TensorPlace]] = []
    begin = end = None
    for name, place in sorted(places.items(), key=lambda item: (item[1].path, item[1].start)):
        offset = place.start - begin.start if begin else 0
        follows = end is not None and (place.path, place.start) == (end.path, end.end)
        if not follows or offset % ALIGNMENT or offset + place.length > CHUNK_BYTES:
            begin = place
            chunks.append({})
        chunks[-1][name] = end = place
    return chunks


def _checksum(path: Path, read: ByteListener) -> str:
    try:
        return cached_sha256_of_file(path, read)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{path} cannot be read any more ({error.strerror}); put the model's files back")


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """Return a stamp that changes when a file is written to or replaced."""
    return status.st_size, status.st_mtime_ns, status.st_ino


def _main_dtype(places: Iterable[TensorPlace]) -> torch.dtype:
    sizes: Counter[torch.dtype] = Counter()
    for place in places:
        sizes[place.dtype] += place.length
    return max(sizes, key=sizes.__getitem__, default=torch.uint8)


def _name_of(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def weights_key(files: TensorFiles) -> dict:
    """Describe the files of a model as plain JSON that changes whenever its weights may have: a key for caches."""
    return {
        "fingerprint": files.fingerprint(),
        "files": [[path.stat().st_size, path.stat().st_mtime_ns] for path in files.files],
    }
