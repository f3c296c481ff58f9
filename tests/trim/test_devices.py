"""Batches halve where memory runs out, and errors of memory get a message."""

import pytest
import torch

from trim.devices import halving, memory_errors_named
from trim.errors import NotEnoughMemoryError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "full",
    [
        MemoryError(),
        torch.OutOfMemoryError("full"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_the_batch_halves_until_the_work_fits(full):
    tried: list[int] = []
    released: list[int] = []

    def work(batch: int) -> str:
        tried.append(batch)
        if batch > 3:
            raise full
        return "done"

    assert halving(work, 13, CPU, "too large", released.append) == ("done", 3)
    assert tried == [13, 6, 3]
    assert released == [6, 3]


def test_what_does_not_fit_at_all_says_so():
    def work(batch: int) -> None:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(NotEnoughMemoryError, match="one window is too large"):
        halving(work, 4, CPU, "one window is too large")


def test_an_error_that_has_advice_keeps_it_and_others_are_left_alone():
    tried: list[int] = []

    def work(batch: int) -> None:
        tried.append(batch)
        raise NotEnoughMemoryError("take fewer vectors")

    with pytest.raises(NotEnoughMemoryError, match="take fewer vectors"):
        halving(work, 4, CPU, "too large")
    assert tried == [4]
    with pytest.raises(NotEnoughMemoryError, match="fewer"), memory_errors_named("other"):
        work(1)
    with pytest.raises(RuntimeError, match="shapes"), memory_errors_named("other"):
        raise RuntimeError("shapes differ")
    with pytest.raises(NotEnoughMemoryError, match="other"), memory_errors_named("other"):
        raise MemoryError
