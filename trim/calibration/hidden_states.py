"""The hidden states between two blocks for the whole calibration text, on the GPU, in RAM or on disk."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trim.devices import available_bytes
from trim.errors import SettingsError

if sys.platform != "win32":  # Windows has no such limits
    import resource

# Shares of the free memory that hidden states may take; the rest is for a block, its curves and a batch in flight.
_SHARE_OF_GPU = 0.4
_SHARE_OF_RAM = 0.5


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """Hidden states of all windows; a batch is read, pushed through a block and written back in place.

    Attributes:
        states: (windows, length, …).
        storage: "gpu", "ram" or "disk".
    """

    states: Tensor
    storage: str

    def read(self, part: slice, device: torch.device) -> Tensor:
        """Return a batch on the device; a view if it is stored there."""
        return self.states[part].to(device)

    def write(self, part: slice, states: Tensor) -> None:
        """Replace a batch."""
        self.states[part].copy_(states)


@contextlib.contextmanager
def allocate_states(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    *,
    folder: Path,
    limit_bytes: int | None = None,
) -> Iterator[HiddenStates]:
    """Allocate room for hidden states in the fastest storage that holds them; freed when the `with` block ends.

    Args:
        shape: (windows, length, …), with the shape of a token's state last.
        dtype: the type in which the model computes.
        device: where the model computes.
        folder: where a temporary file is made when memory does not suffice.
        limit_bytes: the most memory that hidden states may take; None: a share of the free memory.

    Raises:
        SettingsError: neither memory nor disk has room.
    """
    size = torch.Size(shape).numel() * dtype.itemsize
    if device.type == "cuda" and size <= (
        _SHARE_OF_GPU * _free_bytes(device) if limit_bytes is None else limit_bytes
    ):
        yield HiddenStates(torch.empty(shape, dtype=dtype, device=device), "gpu")
        return
    if size <= (_SHARE_OF_RAM * _free_bytes(torch.device("cpu")) if limit_bytes is None else limit_bytes):
        yield HiddenStates(torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda"), "ram")
        return
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SettingsError(
            f"the hidden states of {shape[0]:,} windows of {shape[1]:,} tokens take {size:,} bytes, more than memory "
            f"may hold and more than the {free:,} bytes free on the disk of {folder}; use fewer or shorter windows"
        )
    descriptor, name = tempfile.mkstemp(prefix=".activations-", dir=folder)
    os.close(descriptor)
    try:
        os.truncate(name, size)
        # The system may write a shared mapping back at any time, and does not count it towards a data limit.
        flat = torch.from_file(name, shared=True, size=torch.Size(shape).numel(), dtype=dtype)
        yield HiddenStates(flat.view(shape), "disk")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _free_bytes(device: torch.device) -> int:
    """Return the free memory, within the data limit of this process."""
    free = available_bytes(device)
    if sys.platform != "win32" and device.type == "cpu":
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        free = min(free, free if limit == resource.RLIM_INFINITY else limit)
    return free
