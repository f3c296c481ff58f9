"""The Layer page with the model on a GPU: the same numbers as on the CPU."""

import random

import numpy as np
import pytest

from tests.gpu.layers import on_gpu
from tests.trim import tiny

pytest.importorskip("streamlit", reason="the page needs streamlit")
from app.services.layer import laboratory
from tests.app.page import LayerPage

pytestmark = on_gpu


def visit(monkeypatch: pytest.MonkeyPatch, device: str, address: dict[str, str]) -> LayerPage:
    """The page after its reader has chosen the device, in float32, on a server of its own."""
    made = laboratory.Laboratory()
    monkeypatch.setattr("app.ui.common.waiting.laboratory", lambda: made)
    page = LayerPage(**address)
    page.set("selectbox", "dtype", "float32")
    return page.set("selectbox", "device", device)


def test_same_numbers_as_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    letters = random.Random(0)
    text = tmp_path / "words.txt"
    text.write_text(" ".join("".join(letters.choices("abcdefgh", k=5)) for _ in range(4000)))
    model = str(tiny.folder(tmp_path / "llama"))
    address = {"model": model, "text": str(text), "windows": "8", "length": "32", "vectors": "4"}
    on_cpu = visit(monkeypatch, "cpu", address)
    on_gpu = visit(monkeypatch, "cuda:0", address)
    assert any("computed on cuda" in caption for caption in on_gpu.texts)
    assert on_gpu.metrics["η"] == on_cpu.metrics["η"]
    for label in ("Quality: Uniform", "TRIM", "Optimal"):
        assert float(on_gpu.metrics[label]) == pytest.approx(float(on_cpu.metrics[label]), rel=2e-5)
    for name in ("gini", "cosine_trim"):
        gpu, cpu = (page.linked[1][name] for page in (on_gpu, on_cpu))
        np.testing.assert_allclose(gpu, cpu, atol=1e-4)
