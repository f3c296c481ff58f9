"""Compile functions with numba for given types, and cache them on disk, so that each is compiled once per machine."""

import contextlib
import functools
import hashlib
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic

from trim.cache import cache_folder, touch
from trim.errors import CacheWarning

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS = {"nogil": True, "error_model": "numpy"}
# Sums may be taken in another order, so that they fill vector registers. Nothing is assumed of NaN.
_FAST_SUMS = {"reassoc", "contract", "nsz"}
_lock = threading.Lock()  # of numba's setting that says where its cache is
_warned = False


def compiled(*signatures: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function for these types, or load what an earlier process compiled.

    Where the cache cannot be used it is compiled in each process, and a `CacheWarning` says so once.

    Args:
        signatures: as numba spells them, such as "void(int64[::1], float64[:, ::1])".
    """

    def compile_now(function: Callable[P, R]) -> Callable[P, R]:
        begin = time.monotonic()
        try:
            with _cache_at(_folder()):
                result: Callable[P, R] = numba.njit(list(signatures), cache=True, **_OPTIONS)(function)
        except (
            Exception
        ) as error:  # a damaged entry may fail in any way; a fault of the code fails again below
            result = numba.njit(list(signatures), **_OPTIONS)(function)
            _warn(error, time.monotonic() - begin)
        return result

    return compile_now


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function into every compiled function that calls it; sums may be taken in any order."""
    inside: Callable[P, R] = numba.njit(fastmath=_FAST_SUMS, **_OPTIONS)(function)
    return inside


@intrinsic
def next_block(context, counter):
    """Take the next number off a counter, (1,) int64, that several threads share."""

    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, context.get_constant(types.int64, 1), "seq_cst")

    return types.int64(counter), build


@intrinsic
def prefetch(context, table, row):
    """Begin to fetch a row of a C-contiguous table, which is read soon, into the first cache."""

    def build(context, builder, signature, arguments):
        ir, pointer, number = cgutils.ir, cgutils.voidptr_t, cgutils.int32_t
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        offset = builder.mul(arguments[1], builder.extract_value(array.strides, 0))
        address = cgutils.pointer_add(builder, array.data, offset, pointer)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, number(0), number(3), number(1)])  # to read; into all caches; data
        return context.get_dummy_value()

    return types.void(table, row), build


def _folder() -> Path:
    """Return the folder of these sources' compiled functions: in the environment if it is there, or in the cache.

    Its name is a digest of all sources: numba checks only the file of a function, not those of the functions it calls.
    """
    folder = environment_folder()
    if numba.config.CACHE_DIR or folder is None or not folder.is_dir():
        return Path(numba.config.CACHE_DIR or cache_folder() / "compiled") / _digest()
    return folder


def environment_folder() -> Path | None:
    """Return the environment's folder of these sources' compiled functions; None outside of a virtual environment."""
    if sys.prefix == sys.base_prefix:
        return None
    return Path(sys.prefix) / "share" / "trim-lab" / "compiled" / _digest()


@functools.cache
def _digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:32]


@contextlib.contextmanager
def _cache_at(folder: Path) -> Iterator[None]:
    """Let numba cache in a folder what is compiled inside the `with` block; the setting is restored afterwards.

    Raises:
        OSError: nothing can be written there; numba would choose another folder by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    with _lock:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            numba.config.CACHE_DIR = before
    if folder != environment_folder():
        touch(folder)


def _warn(error: Exception, seconds: float) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled functions cannot be cached in {_folder().parent} ({type(error).__name__}), so each process "
            f"compiles them again, {seconds:.0f} s and more; make room on that disk, or set TRIM_CACHE to a folder "
            "that can be written",
            CacheWarning,
            stacklevel=3,
        )
