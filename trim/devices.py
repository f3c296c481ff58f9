"""Devices and data types of a model, and whether it fits there."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from trim.errors import NotEnoughMemoryError, SettingsError
from trim.names import format_bytes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# The share of the weights' own size that loading and one small forward pass need on top of them.
MARGIN_FRACTION = 0.1

_CGROUP = Path("/sys/fs/cgroup")

T = TypeVar("T")


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device of that name ("cpu", "cuda", "cuda:1"); by default a GPU where there is one.

    Raises:
        SettingsError: there is no such device here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise SettingsError(f'{name!r} is not a device; give "cpu", "cuda" or "cuda:1"') from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise SettingsError(f'TRIM Lab computes on "cpu" or "cuda", not on {str(name)!r}')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        has = f"{count} GPU{'s' if count > 1 else ''}" if count else "no GPU that torch can use"
        raise SettingsError(
            f'there is no device {str(name)!r}: this machine has {has}; device="cpu" always works'
        )
    return torch.device("cuda", device.index or 0)


def choose_dtype(
    name: str | torch.dtype | None, checkpoint: torch.dtype, device: torch.device
) -> torch.dtype:
    """Return the type of that name ("float32", "bfloat16", "float16").

    By default float32 on the CPU; on a GPU the checkpoint's own 16-bit type, and for a float32 checkpoint bfloat16, or
    float16 where the GPU has no bfloat16.

    Raises:
        SettingsError: no such type.
    """
    if name is not None:
        dtype = DTYPES.get(str(name).removeprefix("torch."))
        if dtype is None:
            raise SettingsError(f"a model computes in {', '.join(DTYPES)}, not in {str(name)!r}")
        return dtype
    if device.type == "cpu":
        return torch.float32
    if checkpoint == torch.float16 or not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a type: "float32" for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def available_bytes(device: torch.device) -> int:
    """Return the memory that a new tensor could take on the device now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached_by_torch
    return min(int(psutil.virtual_memory().available), _container_bytes())


def half_is_free(device: torch.device, after_bytes: int = 0) -> bool:
    """Return whether half of a GPU's memory is free, or could be freed now, once `after_bytes` more are used."""
    free = available_bytes(device) - after_bytes
    return 2 * free >= torch.cuda.get_device_properties(device).total_memory


def _container_bytes() -> int:
    """Return the memory that the container's limit leaves (Linux control groups, version 2), or all free memory."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no control group, or "max": no limit
        return int(psutil.virtual_memory().total)
    return limit - used + int(statistics.get("inactive_file", 0))


def require_memory(needed_bytes: int, device: torch.device, purpose: str, advice: str) -> None:
    """Check that enough memory is free before it is allocated.

    Args:
        needed_bytes: the bytes that will be allocated.
        device: where they will be allocated.
        purpose: the purpose of the memory, as the beginning of a sentence.
        advice: what the user can do instead.

    Raises:
        NotEnoughMemoryError: too little memory is free.
    """
    available = available_bytes(device)
    if needed_bytes > available:
        where = "this machine" if device.type == "cpu" else f"the GPU ({device})"
        raise NotEnoughMemoryError(
            f"{purpose} needs about {format_bytes(needed_bytes)} of memory, and {where} has "
            f"{format_bytes(max(available, 0))} free; {advice}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the device or the host is full."""
    full = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in full
    )


@contextlib.contextmanager
def memory_errors_named(message: str) -> Iterator[None]:
    """Raise `NotEnoughMemoryError` with this message if memory runs out, whatever torch or the system raises.

    A `NotEnoughMemoryError` from inside keeps its own message.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, NotEnoughMemoryError) or not is_out_of_memory(error):
            raise
        raise NotEnoughMemoryError(message) from error


def halving(
    work: Callable[[int], T],
    batch: int,
    device: torch.device,
    too_large: str,
    release: Callable[[int], None] = lambda batch: None,
) -> tuple[T, int]:
    """Do some work in batches, and halve the batch whenever memory runs out.

    Args:
        work: receives the batch size; called again with each smaller size.
        batch: the first size to try.
        device: torch's cached memory of this device is released before another try.
        too_large: the error message if even a batch of 1 does not fit.
        release: receives the new size, and releases other memory.

    Returns:
        What the work returned, and the batch with which it did.

    Raises:
        NotEnoughMemoryError: a batch of 1 is too large.
    """
    while True:
        try:
            return work(batch), batch
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, NotEnoughMemoryError) or not is_out_of_memory(error):
                raise
            if batch == 1:
                raise NotEnoughMemoryError(too_large) from error
        batch //= 2  # outside except: the traceback holds the tensors that filled the memory
        release(batch)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def has_kernels(device: torch.device) -> bool:
    """Return whether the Triton kernels of `trim.kernels` can be used on a device."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


@contextlib.contextmanager
def fixed_threads(threads: int) -> Iterator[None]:
    """Run torch with a number of threads inside the `with` block; it changes how sums round."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
