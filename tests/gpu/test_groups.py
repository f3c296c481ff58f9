"""Layers that go through the kernels together, against each alone, on a CUDA device."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import trim
from tests.gpu.layers import Layer, on_gpu
from tests.trim.pruning.test_experts import TOKENS, folder_of, module_of
from trim.calibration.capture import LayerSample, scored_layers
from trim.methods.allocations import join_allocations
from trim.methods.choices import ALLOCATIONS_OF_LAYERS
from trim.pruning import layer as pruning
from trim.runs.record import LayerRecord, to_parts
from trim.runs.recording import deferred_records

pytestmark = on_gpu

SHAPES = [
    Layer(37, 1500, 70, torch.float16),
    Layer(2050, 130, 20, torch.bfloat16),
    Layer(6, 90, 300),
    Layer(3, 33000, 9, torch.float16),
    Layer(50, 129, 33, kind="dead rows"),
]


def samples_of(shape: Layer) -> list[LayerSample]:
    samples = []
    for seed in range(5):
        weight, inputs, _ = (
            values.cuda()
            for values in Layer(
                shape.rows, shape.columns, shape.vectors, shape.dtype, shape.kind, seed
            ).arrays()
        )
        samples.append(LayerSample(f"0.{seed}", weight, inputs, inputs.float().norm(dim=1)))
    return samples


def records(samples: list[LayerSample], totals: list[int], allocation: str) -> list[LayerRecord]:
    generator = torch.Generator().manual_seed(0)
    rows = len(samples[0].weight)
    sensitivities = (
        [torch.rand(rows, generator=generator) for _ in range(5)] if allocation == "optimal" else None
    )
    settings = [trim.SearchSettings(total / samples[0].weight.numel()) for total in totals]
    parts = [slice(0, 5)] if GROUPED[0] else [slice(place, place + 1) for place in range(5)]
    made = []
    for part in parts:
        own = sensitivities[part] if sensitivities else None
        scored = scored_layers(samples[part], "wanda", own)
        allocations = ALLOCATIONS_OF_LAYERS[allocation](scored, totals[part], settings[part])
        come = deferred_records(
            [each.name for each in samples[part]],
            scored,
            allocations,
            budgets=[0.5] * len(allocations),
            allocation=allocation,
            score_name="wanda",
            quality_measure="cosim_flat",
            keep=join_allocations(allocations).mask(scored.curves),
            change=None,
            tokens=[None] * len(allocations),
        )
        made += come()
    return made


GROUPED = [False]


@pytest.mark.parametrize("allocation", ALLOCATIONS_OF_LAYERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_together_as_alone(shape, allocation, monkeypatch):
    samples = samples_of(shape)
    numel = samples[0].weight.numel()
    totals = [round(share * numel) for share in (0.5, 0.7, 0.31, 0.6, 0.9)]
    alone = records(samples, totals, allocation)
    monkeypatch.setattr(f"{__name__}.GROUPED", [True])
    together = records(samples, totals, allocation)
    for one, other in zip(alone, together, strict=True):
        assert one.name == other.name
        assert other.pruned == one.pruned
        # Products in a batch may be summed in another order: a count turns by rounding here and there.
        assert (one.keep() == other.keep()).mean() > 0.999
        assert other.realised_quality == pytest.approx(one.realised_quality, rel=1e-5)
        assert other.uniform_quality == pytest.approx(one.uniform_quality, rel=1e-5)
        assert other.search is None or other.search.learning_rate == one.search.learning_rate
        arrays, others = to_parts(one)[0], to_parts(other)[0]
        assert arrays.keys() == others.keys()
        for key in ("gini", "weight_norm"):
            np.testing.assert_allclose(others[key], arrays[key], rtol=1e-6)
        np.testing.assert_array_equal(arrays["dead_rows"], others["dead_rows"])
        np.testing.assert_allclose(others["cosine_uniform"], arrays["cosine_uniform"], atol=1e-5)


def test_experts_of_fewer_vectors_go_along(monkeypatch):
    samples = samples_of(SHAPES[0])
    fewer = [
        dataclasses.replace(each, inputs=each.inputs[:, : 70 - place]) for place, each in enumerate(samples)
    ]
    alone = records(fewer, [30000] * 5, "trim")
    monkeypatch.setattr(f"{__name__}.GROUPED", [True])
    for one, other in zip(alone, records(fewer, [30000] * 5, "trim"), strict=True):
        assert other.vectors == one.vectors
        assert (one.keep() == other.keep()).mean() > 0.999
        assert other.realised_quality == pytest.approx(one.realised_quality, rel=1e-5)


def test_the_same_twice(monkeypatch):
    samples = samples_of(SHAPES[0])
    monkeypatch.setattr(f"{__name__}.GROUPED", [True])
    first, second = (records(samples, [30000] * 5, "trim") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for key, value in to_parts(one)[0].items():
            np.testing.assert_array_equal(value, to_parts(other)[0][key])


def test_a_layer_of_a_group_that_is_not_finite_is_named():
    samples = samples_of(SHAPES[4])
    samples[3].inputs[7, 1] = torch.inf
    with pytest.raises(trim.NonFiniteError, match=r"^0\.3 has a calibration activation"):
        scored_layers(samples, "wanda")


def test_exact_qualities_are_those_of_the_counts():
    samples = samples_of(SHAPES[0])
    curves = scored_layers(samples[:1], "wanda").curves
    result = trim.search(curves, trim.SearchSettings(0.6, iterations=4))
    for place, (rate, updates) in enumerate(result.trace.updates.items()):
        counts = trim.project_counts(updates, int(result.counts.sum()), curves.columns, 0.95)
        expected = trim.layer_quality(curves.at(counts), "cosim_flat").cpu()
        torch.testing.assert_close(result.trace.exact_quality[place], expected, rtol=1e-5, atol=0)
        assert rate == result.trace.rates[place]


@pytest.mark.parametrize("allocation", ["trim", "optimal", "uniform"])
def test_a_mixture_of_experts(allocation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = folder_of(tmp_path / "model", module_of("qwen3_moe"))
    options = {
        "tokens": TOKENS,
        "target": 0.5,
        "allocation": allocation,
        "dtype": "float32",
        "row_weights": "ones",
    }
    together = trim.prune(source, tmp_path / "together", **options)
    monkeypatch.setattr(pruning, "GROUP_WEIGHTS", 1)
    alone = trim.prune(source, tmp_path / "alone", **options)
    for name in alone.layers:
        one, other = alone.layer(name), together.layer(name)
        assert (one.keep() == other.keep()).mean() > 0.99
        assert one.tokens == other.tokens
