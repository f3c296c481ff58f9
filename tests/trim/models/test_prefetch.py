"""Tensors read ahead are those of the file, whoever asked for them and in which order."""

import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trim import tiny
from trim.errors import ModelError
from trim.models import tensor_files
from trim.models.safetensors_header import TensorPlace
from trim.models.streamed import Prefetcher, StreamedModel
from trim.models.tensor_files import TensorFiles, joined_in_chunks
from trim.models.tensor_names import ModelTensors
from trim.progress import Progress

CPU = torch.device("cpu")
NAMES = [f"model.layers.0.self_attn.{leaf}_proj.weight" for leaf in "qkvo"]


@pytest.fixture
def tensors(tmp_path: Path) -> ModelTensors:
    model = StreamedModel(tiny.folder(tmp_path / "llama"), device=CPU)
    return ModelTensors(model.module, model.files)


def test_what_was_asked_for_and_what_was_not(tensors):
    prefetcher = Prefetcher(tensors, CPU)
    prefetcher.request(NAMES[:2])
    for name in (NAMES[2], NAMES[1], NAMES[0], NAMES[0]):  # the last one a second time
        assert torch.equal(prefetcher.take(name), tensors.read(name))


def test_asking_again_lets_go_of_the_rest(tensors):
    prefetcher = Prefetcher(tensors, CPU)
    prefetcher.request(NAMES[:2])
    prefetcher.request(NAMES[2:])
    assert set(prefetcher._coming) == set(NAMES[2:])
    prefetcher.release()
    assert torch.equal(prefetcher.take(NAMES[2]), tensors.read(NAMES[2]))


def test_an_error_reaches_whoever_takes(tensors, tmp_path):
    prefetcher = Prefetcher(tensors, CPU)
    (tmp_path / "llama/model.safetensors").unlink()
    prefetcher.request(NAMES)
    for name in NAMES:  # also when it is read again
        with pytest.raises(ModelError, match="cannot be read any more"):
            prefetcher.take(name)
    assert not prefetcher._coming


def test_a_file_that_is_gone_has_no_checksum(tmp_path, own_cache):
    files = TensorFiles(tiny.folder(tmp_path / "llama"))
    (tmp_path / "llama/model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read any more"):
        files.checksums()


def test_an_error_of_who_listens_to_checksums_is_not_the_files(tmp_path, own_cache):
    def listener(step: Progress) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError):
        TensorFiles(tiny.folder(tmp_path / "llama")).checksums(listener)


@pytest.mark.parametrize("most", [1, 20_000, 2**20])
def test_a_chunk_holds_the_tensors_of_the_file(tensors, tmp_path, monkeypatch, most):
    monkeypatch.setattr(tensor_files, "CHUNK_BYTES", most)
    stored = load_file(tmp_path / "llama/model.safetensors")
    names = [name for name in stored if ".layers.1." in name]
    chunks = tensors.chunks(names)
    assert sorted(name for chunk in chunks for name in chunk) == sorted(names)
    assert (len(chunks) == len(names)) == (most == 1)
    for chunk in chunks:
        assert len(chunk) == 1 or sum(stored[name].nbytes for name in chunk) <= most
        for name, tensor in tensors.read_chunk(chunk).items():
            assert tensor.dtype == stored[name].dtype
            assert torch.equal(tensor, stored[name])


def test_chunks_begin_anew_at_gaps_other_files_and_odd_places():
    def place(path: str, start: int, length: int) -> TensorPlace:
        return TensorPlace(Path(path), start, length, torch.uint8, (length,))

    places = {
        "d": place("b", 0, 256),
        "c": place("a", 1032, 100),
        "b": place("a", 264, 256),
        "a": place("a", 8, 256),
        "e": place("b", 256, 10),
        "f": place("b", 266, 256),
        "g": place("b", 522, 256),
    }
    assert [list(chunk) for chunk in joined_in_chunks(places)] == [["a", "b"], ["c"], ["d", "e"], ["f", "g"]]


def test_scalars_and_empty_tensors(tmp_path):
    given = {"empty": torch.zeros(0, 3), "one": torch.tensor(2.5), "two": torch.tensor([1.0, 2.0])}
    save_file(given, tmp_path / "model.safetensors")
    files = TensorFiles(tmp_path)
    for chunk in joined_in_chunks(files.places):
        for name, tensor in files.read_chunk(chunk).items():
            assert torch.equal(tensor, given[name])


@pytest.mark.parametrize("order", [(0, 1, 2, 0, 1, 2), (0, 1, 2, 2, 1, 0, 0, 1, 2), (2, 0, 1)])
def test_blocks_are_read_by_other_threads_and_once_for_each_use(tmp_path, monkeypatch, order):
    monkeypatch.setattr(StreamedModel, "reads_ahead", True)
    model = StreamedModel(tiny.folder(tmp_path / "llama"), device=CPU)
    plain, read = TensorFiles.read_chunk, []

    def watched(
        files: TensorFiles, chunk: dict[str, TensorPlace], **options: bool
    ) -> dict[str, torch.Tensor]:
        read.extend((threading.current_thread().name.split("_")[0], name) for name in chunk)
        return plain(files, chunk, **options)

    monkeypatch.setattr(TensorFiles, "read_chunk", watched)
    model.release(after=2)
    for index in order:
        with model.block(index) as block:
            name = f"model.layers.{index}.mlp.up_proj.weight"
            assert torch.equal(
                block.mlp.up_proj.weight, load_file(tmp_path / "llama/model.safetensors")[name]
            )
    model._prefetcher._reader.shutdown()
    assert {thread for thread, _ in read} == {"trim-read"}
    used = Counter(name for _, name in read)
    assert all(used[f"model.layers.{index}.mlp.up_proj.weight"] >= order.count(index) for index in set(order))
    assert sum(used.values()) <= 9 * (
        len(order) + 1
    )  # one block at most is read in vain, the one before a turn


def test_blocks_that_are_not_used_are_not_prefetched(tmp_path, monkeypatch):
    monkeypatch.setattr(StreamedModel, "reads_ahead", True)
    model = StreamedModel(tiny.folder(tmp_path / "llama"), device=CPU)
    model.release(after=1)
    with model.block(0):
        assert model._prefetcher._coming
    with model.block(1):
        assert not model._prefetcher._coming
