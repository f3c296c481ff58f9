"""Tensors read from disk ahead of time, by a thread of their own, while a GPU is busy."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from trim.models.tensor_files import TensorFiles


class Prefetcher:
    """Holds the tensors that were asked for last, in pinned memory, from where they go to a GPU fastest.

    Asking for others lets go of those that nobody took, so that no more than one block's weights wait here.
    """

    def __init__(self, files: TensorFiles) -> None:
        self._files = files
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trim-read")
        self._coming: dict[str, Future[Tensor]] = {}

    def ask(self, names: list[str]) -> None:
        """Begin to read; tensors asked for before are let go of."""
        self.forget()
        self._coming = {name: self._reader.submit(self._read, name) for name in names}

    def take(self, name: str) -> Tensor:
        """A tensor, in host memory and in the type of the file; read now where nobody asked for it.

        Raises:
            ModelError: as `TensorFiles.read`.
        """
        coming = self._coming.pop(name, None)
        return self._files.read(name) if coming is None else coming.result()

    def forget(self) -> None:
        """Let go of what was asked for."""
        for coming in self._coming.values():
            coming.cancel()
        self._coming = {}

    def _read(self, name: str) -> Tensor:
        return self._files.read(name, pinned=torch.cuda.is_available())
