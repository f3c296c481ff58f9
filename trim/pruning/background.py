"""Work in the background while a GPU computes: groups of layers, their records, and the files of blocks."""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

from trim.pruning.events import BlockDone, LayerPruned, Listener
from trim.runs.record import LayerRecord
from trim.runs.writer import RunWriter

T = TypeVar("T")

Write = Callable[[int, list[LayerRecord], dict[str, object], float], None]


@contextlib.contextmanager
def writing(writer: RunWriter, last: int, listener: Listener, *, in_background: bool) -> Iterator[Write]:
    """Yield a function that writes a block; when the `with` block ends, all blocks are on disk.

    `in_background`: the function returns before the block is on disk, and a later call reports it to the listener. Two
    files are written at once, so that the next one is prepared while the disk syncs one.
    """
    pending: list[Future[BlockDone]] = []

    def commit(
        index: int,
        records: list[LayerRecord],
        facts: dict[str, object],
        block_begin: float,
        before: Future[BlockDone] | None,
    ) -> BlockDone:
        after = None if before is None else before.result
        size = writer.write_block(index, records, after=after, **facts)
        return BlockDone(index, last + 1, size, time.perf_counter() - block_begin)

    def finish(most: int = 0) -> None:
        while len(pending) > most:
            listener(pending.pop(0).result())

    def write(index: int, records: list[LayerRecord], facts: dict[str, object], block_begin: float) -> None:
        finish(1)
        before = pending[-1] if pending else None
        pending.append(threads.submit(commit, index, records, facts, block_begin, before))
        if not in_background:
            finish()

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="trim-write") as threads:
        yield write
        finish()


class Records:
    """The records of a block's layers, which are made while the GPU works on.

    Attributes:
        made: the finished records by layer.
    """

    def __init__(self, index: int, listener: Listener) -> None:
        self.made: dict[str, LayerRecord] = {}
        self._index, self._listener = index, listener
        self._pending: list[tuple[Future[list[LayerRecord]], float]] = []

    def add(self, pending: Future[list[LayerRecord]], seconds: float) -> None:
        """Add records that are being made; `seconds`: how long it took to prune their layers."""
        self._pending.append((pending, seconds))

    def take(self, *, wait: bool) -> None:
        """Collect the finished records, or `wait` for all, and report their layers."""
        while self._pending and (wait or self._pending[0][0].done()):
            pending, seconds = self._pending.pop(0)
            records = pending.result()
            for record in records:
                self.made[record.name] = record
                self._listener(_layer_pruned(record, self._index, seconds / len(records)))


class _Now(Executor):
    """An executor that works in the caller's thread, where there is no GPU to keep busy."""

    def submit(self, work: Callable[..., T], /, *arguments: object, **named: object) -> Future[T]:
        """Do the work at once; its exceptions are raised here."""
        done: Future[T] = Future()
        done.set_result(work(*arguments, **named))
        return done


@contextlib.contextmanager
def pruning_workers(in_background: bool) -> Iterator[Executor]:
    """Yield an executor with two threads, or one that works in the caller's thread."""
    if not in_background:
        yield _Now()
        return
    gc.collect()
    gc.freeze()  # experts make many objects, and each collection would traverse the existing ones again
    with ThreadPoolExecutor(2, thread_name_prefix="trim-prune") as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            gc.unfreeze()


def _layer_pruned(record: LayerRecord, block: int, seconds: float) -> LayerPruned:
    search = record.search
    return LayerPruned(
        record.name,
        block,
        record.sparsity,
        record.uniform_quality,
        record.realised_quality,
        search.learning_rate if search else None,
        len(search.tried) if search else 0,
        seconds,
    )
