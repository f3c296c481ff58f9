"""Models and captures on a GPU: types, the same numbers as on the CPU, and memory that fills up."""

import json
from pathlib import Path

import pytest
import torch

import trim
from tests.gpu.layers import on_gpu
from tests.processes import python
from tests.trim import tiny
from trim import cache, devices

pytestmark = on_gpu

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny-llama")


# In a process of its own: what other tests leave in this one's memory would decide how much it may use.
LITTLE_MEMORY = """
import json, sys
import torch, trim
from trim.calibration import text_pass

text_pass.GPU_BATCH_TOKENS = 2**20
model, told = trim.load_model(sys.argv[1], dtype="float32", device="cuda:0"), []
tokens = torch.randint(3, 256, (16384, 64), generator=torch.Generator().manual_seed(1))
_, total = torch.cuda.mem_get_info(0)
torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(0) + 200e6) / total, 0)
samples = trim.capture(model, tokens, ["*.down_proj"], progress=lambda step: told.append(step.what))
finite = bool(torch.isfinite(samples["2.mlp.down_proj"].input_norm).all())
print(json.dumps([told, finite]))
"""


def windows(sequences: int, length: int) -> torch.Tensor:
    return torch.randint(3, 256, (sequences, length), generator=torch.Generator().manual_seed(1))


def test_the_gpu_and_a_half_type_are_chosen(llama: Path, tmp_path: Path):
    model = trim.load_model(llama)
    assert model.device == GPU
    assert model.dtype == torch.bfloat16
    assert trim.load_model(llama, dtype="float32").dtype == torch.float32
    half = tiny.folder(tmp_path / "half", dtype=torch.float16)
    assert trim.load_model(half, device="cuda:0").dtype == torch.float16
    assert trim.load_model(half, device="cpu").dtype == torch.float32


def test_a_capture_equals_that_of_the_cpu(llama: Path):
    tokens = windows(6, 40)
    on_gpu = trim.capture(trim.load_model(llama, dtype="float32"), tokens)
    on_cpu = trim.capture(trim.load_model(llama, device="cpu"), tokens)
    for name, sample in on_gpu.items():
        assert {sample.weight.device, sample.inputs.device, sample.input_norm.device} == {GPU}
        torch.testing.assert_close(sample.inputs.cpu(), on_cpu[name].inputs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sample.input_norm.cpu(), on_cpu[name].input_norm, rtol=1e-4, atol=1e-5)


def test_batches_shrink_when_the_memory_is_full(llama: Path):
    told, finite = json.loads(python(LITTLE_MEMORY, str(llama)))
    read = [int(what.removesuffix(" of 16384 windows").split(": ")[1]) for what in told]
    assert (read[0], read[-1]) == (0, 16384)
    assert 1 < min(filter(None, read)) < 16384
    assert finite


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(
    llama: Path, monkeypatch: pytest.MonkeyPatch
):
    assert devices.available_bytes(GPU) > 2**20
    monkeypatch.setattr(devices, "available_bytes", lambda device: 1000)
    with pytest.raises(trim.NotEnoughMemoryError, match=r'cuda:0.*device="cpu"'):
        trim.load_model(llama)


def test_a_capture_is_known_by_its_device(llama: Path):
    tokens = windows(2, 8)
    trim.capture(trim.load_model(llama, device="cpu"), tokens, ["0.mlp.up_proj"])
    trim.capture(trim.load_model(llama, dtype="float32"), tokens, ["0.mlp.up_proj"])
    assert len(list((cache.cache_folder() / "captures").iterdir())) == 2
