"""Whole models on a GPU: it is chosen by itself, and agrees with the CPU but for rounding."""

import pytest

import trim
from tests.gpu.layers import on_gpu
from tests.trim import rough

pytestmark = on_gpu


@pytest.mark.parametrize("family", rough.FAMILIES)
def test_masks_are_those_of_the_cpu(family, tmp_path):
    folder = rough.make_model(family, tmp_path / "model")
    options = {"tokens": rough.random_tokens(), "target": 0.5, "dtype": "float32"}
    one = trim.prune(folder, tmp_path / "gpu", **options)
    other = trim.prune(folder, tmp_path / "cpu", device="cpu", **options)
    assert one.compute.device == "cuda"
    assert one.metrics["sparsity"] == other.metrics["sparsity"]
    for name in one.layers:
        assert (one.layer(name).keep() == other.layer(name).keep()).mean() > 0.97


@pytest.mark.parametrize("budget", ["owl", "alphapruning"])
def test_half_precision_budgets_and_recalculation(budget, tmp_path):
    folder = rough.make_model("llama", tmp_path / "model")
    run = trim.prune(
        folder,
        tmp_path / "run",
        tokens=rough.random_tokens(),
        target=0.5,
        dtype="bfloat16",
        budget=budget,
        recalculate_inputs=True,
    )
    assert run.metrics["sparsity"]["realised"] == pytest.approx(0.5, abs=1e-4)
    trim.export(run, tmp_path / "out")


@pytest.mark.parametrize("activation_bytes", [None, 0])
def test_resumed_is_bitwise_the_same(activation_bytes, tmp_path):
    folder = rough.make_model("llama", tmp_path / "model")
    options = {"tokens": rough.random_tokens(), "target": 0.5}
    places = []

    def stop(event):
        places.append(getattr(event, "activations", None))
        if type(event).__name__ == "BlockDone":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trim.prune(folder, tmp_path / "run", listener=stop, activation_bytes=activation_bytes, **options)
    assert ("disk" if activation_bytes == 0 else "gpu") in places
    trim.resume(tmp_path / "run")
    trim.prune(folder, tmp_path / "whole", **options)
    rough.assert_same_blocks(tmp_path / "run", tmp_path / "whole")
