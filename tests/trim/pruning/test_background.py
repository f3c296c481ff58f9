"""What a run does in the background while a GPU computes: blocks written, and the next block read."""

import contextlib
import threading

import pytest

import trim
from tests.trim import rough
from tests.trim.rough import pruned
from trim.calibration.capture import scored_layers
from trim.errors import RunError
from trim.models.streamed import Prefetcher, StreamedModel
from trim.pruning import background, layer


class SlowFirstFile:
    """A writer whose first file takes longer than the others, and fails if asked to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.made, self.committed = [], []
        self._second = threading.Event()

    def write_block(self, index, records, *, after=None):
        if index == 0:
            assert self._second.wait(10)
            if self.fails:
                raise RunError("the disk is full")
        self.made.append(index)
        self._second.set()
        if after is not None:
            after()
        self.committed.append(index)
        return 7


@pytest.mark.parametrize("fails", [False, True])
def test_blocks_written_in_the_background_are_committed_in_order(fails):
    writer, done = SlowFirstFile(fails), []
    refused = pytest.raises(RunError, match="disk is full") if fails else contextlib.nullcontext()
    with refused, background.writing(writer, 3, done.append, in_background=True) as write:
        for index in range(4):
            write(index, [], {}, 0.0)
    assert writer.made[0] == 1
    assert writer.committed == ([] if fails else [0, 1, 2, 3])
    assert [(fact.block, fact.bytes) for fact in done] == [(index, 7) for index in writer.committed]


@pytest.mark.parametrize("fits", [True, False])
def test_a_layer_that_does_not_fit_is_tried_again_without_the_next_block(
    fits, own_llama, tmp_path, own_cache, monkeypatch
):
    whole = pruned(own_llama, tmp_path / "whole")
    monkeypatch.setattr(StreamedModel, "reads_ahead", True)
    readers, made = [], Prefetcher.__init__
    monkeypatch.setattr(Prefetcher, "__init__", lambda own, *given: readers.append(own) or made(own, *given))
    failed = []

    def short_of_memory(samples, *rest):
        if any(reader._coming for reader in readers) or not fits:
            failed.append(samples[0].name)
            raise MemoryError
        return scored_layers(samples, *rest)

    monkeypatch.setattr(layer, "scored_layers", short_of_memory)
    if fits:
        rough.assert_same_blocks(pruned(own_llama, tmp_path / "run").path, whole.path)
        assert failed == ["0.self_attn.q_proj", "1.self_attn.q_proj"]  # the last block has no next one
    else:
        with pytest.raises(trim.NotEnoughMemoryError, match=r"0\.self_attn\.q_proj.*--vectors"):
            pruned(own_llama, tmp_path / "run")
        assert failed == ["0.self_attn.q_proj"] * 2
