"""Tensors read ahead are those of the file, whoever asked for them and in which order."""

import pytest
import torch
from safetensors.torch import save_file

from trim.errors import ModelError
from trim.models.streamed import Prefetcher
from trim.models.tensor_files import TensorFiles


@pytest.fixture
def files(tmp_path):
    save_file({name: torch.randn(3, 5) for name in "abc"}, tmp_path / "model.safetensors")
    return TensorFiles(tmp_path)


def test_what_was_asked_for_and_what_was_not(files):
    prefetcher = Prefetcher(files)
    prefetcher.request(["a", "b"])
    for name in "cab":
        assert torch.equal(prefetcher.take(name), files.read(name))
    assert torch.equal(prefetcher.take("a"), files.read("a"))  # a second time


def test_asking_again_lets_go_of_the_rest(files):
    prefetcher = Prefetcher(files)
    prefetcher.request(["a", "b"])
    prefetcher.request(["c"])
    assert list(prefetcher._coming) == ["c"]
    prefetcher.forget()
    assert torch.equal(prefetcher.take("c"), files.read("c"))


def test_an_error_reaches_whoever_takes(files):
    prefetcher = Prefetcher(files)
    prefetcher.request(["a", "missing"])
    assert torch.equal(prefetcher.take("a"), files.read("a"))
    with pytest.raises(ModelError, match="missing"):
        prefetcher.take("missing")
