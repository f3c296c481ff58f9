"""The optimal method on a GPU agrees with the CPU but for rounding, and meets its totals exactly."""

from typing import Any

import pytest
import torch

import trim
from tests.gpu.layers import Layer, on_gpu
from tests.trim import rough
from trim.calibration.calibration import Calibration
from trim.calibration.sensitivity import row_sensitivity
from trim.methods.optimal import lower_hull, optimal_counts
from trim.models.safetensors_header import TensorPlace
from trim.models.streamed import StreamedModel
from trim.models.tensor_files import TensorFiles

pytestmark = on_gpu


def test_counts_are_those_of_the_cpu_and_the_same_twice():
    generator = torch.Generator().manual_seed(0)
    error = torch.rand(500, 700, generator=generator, dtype=torch.float64).cumsum(dim=1).square()
    sensitivity = torch.rand(500, generator=generator)
    expected = optimal_counts(lower_hull(error, 690), 200_000, sensitivity)
    for _ in range(2):
        found = optimal_counts(lower_hull(error.cuda(), 690), 200_000, sensitivity.cuda())
        assert torch.equal(found.cpu(), expected)


def curves_of(kind: str, rows: int, points: int) -> torch.Tensor:
    """Float32 curves from 0 on, (rows, points)."""
    generator = torch.Generator().manual_seed(points)

    def uniform() -> torch.Tensor:
        return torch.rand(rows, points, generator=generator)

    if kind == "measured":
        return Layer(rows, points - 1, 16, kind="dead rows").curves("cpu").error.float()
    steps = {
        "random": lambda: uniform() - 0.5,
        "monotone": uniform,
        "convex": lambda: uniform().sort(dim=1).values,
        "concave": lambda: uniform().sort(dim=1, descending=True).values,
        "flat runs": lambda: (uniform() < 0.2).float(),
        "straight": lambda: torch.ones(rows, points),
        "zero": lambda: torch.zeros(rows, points),
        "wide": lambda: torch.exp(12 * uniform()),
    }[kind]()
    curves = steps.cumsum(dim=1)
    return curves - curves[:, :1]


@pytest.mark.parametrize(
    "kind",
    ["measured", "random", "monotone", "convex", "concave", "flat runs", "straight", "zero", "wide"],
)
@pytest.mark.parametrize(
    ("rows", "points", "limit"),
    [(1, 2, 1), (3, 66, 65), (576, 1537, 1520), (1, 5000, 4999), (2500, 577, 300), (100, 33001, 32999)],
)
def test_hulls_by_kernels_are_those_of_the_cpu(kind, rows, points, limit):
    error = curves_of(kind, rows, points)
    expected = lower_hull(error, limit)
    found = lower_hull(error.cuda(), limit)
    assert (found.rows, found.limit) == (rows, limit)
    for part in ("row", "length", "slope"):
        assert torch.equal(getattr(found, part).cpu(), getattr(expected, part))


def test_hulls_by_kernels_in_blocks_of_rows(monkeypatch):
    error = curves_of("random", 700, 600).cuda()
    whole = lower_hull(error, 599)
    monkeypatch.setattr("trim.methods.optimal._KERNEL_ENTRIES", 50_000)
    blocks = lower_hull(error, 599)
    for part in ("row", "length", "slope"):
        assert torch.equal(getattr(whole, part), getattr(blocks, part))


@pytest.mark.parametrize("family", ["llama", "gemma3", "opt"])
def test_sensitivity_is_that_of_the_cpu(family, tmp_path):
    folder = rough.make_model(family, tmp_path / "model")
    tokens = rough.random_tokens()
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[1, :5] = mask[4, :9] = False
    found = [
        row_sensitivity(
            StreamedModel(folder, device=torch.device(device), dtype="float32"),
            Calibration.of(tokens, mask),
            batch=4,
            folder=tmp_path,
            activation_bytes=limit,
        )
        for device, limit in (("cpu", None), ("cuda", None), ("cuda", 0))
    ]
    for name, values in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(other[name], values, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("allocation", "budget"), [("optimal", "optimal"), ("trim", "optimal")])
def test_whole_models(allocation, budget, dtype, tmp_path):
    folder = rough.make_model("llama", tmp_path / "model")
    run = trim.prune(
        folder,
        tmp_path / "run",
        tokens=rough.random_tokens(),
        target=0.6,
        allocation=allocation,
        budget=budget,
        sensitivity_windows=4,
        dtype=dtype,
    )
    weights = run.metrics["weights"]
    assert weights["pruned"] == round(0.6 * weights["of"])


def test_blocks_that_stay_on_the_device_are_read_once(tmp_path, monkeypatch):
    model = StreamedModel(rough.make_model("llama", tmp_path), device=torch.device("cuda"))
    read, count = TensorFiles.read_chunk, []

    def counted(files: TensorFiles, chunk: dict[str, TensorPlace], **options: Any) -> dict[str, torch.Tensor]:
        count.extend(chunk)
        return read(files, chunk, **options)

    monkeypatch.setattr(TensorFiles, "read_chunk", counted)

    def weights() -> list[torch.Tensor]:
        found = []
        for index in (0, 1, 2, 1, 0):
            with model.block(index) as block:
                found.append(block.mlp.up_proj.weight.clone())
        return found

    with model.keeping():
        kept = weights()
    assert len(count) == len(set(count)) > 0
    with model.block(1) as block:  # its own from now on
        block.mlp.up_proj.weight.data.zero_()
    assert len(count) == len(set(count))
    again = weights()
    assert len(count) > len(set(count))
    assert all(torch.equal(*pair) for pair in zip(kept, again, strict=True))
