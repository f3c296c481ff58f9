"""What is recorded of a layer on a CUDA device, against the plain way to it."""

import numpy as np
import pytest
import torch

import trim
from tests.gpu.layers import Layer, on_gpu
from trim.methods.allocations import ScoredLayer
from trim.methods.gini import gini
from trim.methods.masks import keep_mask, pack_bits
from trim.runs.record import curve_counts
from trim.runs.recording import layer_record

pytestmark = on_gpu

LAYERS = [
    Layer(64, 4096, 64, torch.float16, "ties"),
    Layer(33, 1000, 40, torch.bfloat16, "dead rows"),
    Layer(7, 33, 8, torch.float32, "zero inputs"),
    Layer(5, 2**15 + 9, 16, torch.float16),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_masks_and_gini(layer):
    curves, score = layer.curves("cuda"), layer.arrays()[2].cuda()
    counts = torch.randint(0, layer.columns + 1, (layer.rows,), generator=torch.Generator().manual_seed(0))
    counts[:2] = torch.tensor([0, layer.columns])
    counts = counts.cuda()
    keep = keep_mask(curves.ranks, counts)
    expected = torch.ones(score.shape, dtype=torch.bool)
    for row, count in enumerate(counts.tolist()):
        expected[row, curves.order[row, :count].cpu()] = False
    assert torch.equal(keep.cpu(), expected)
    np.testing.assert_array_equal(pack_bits(keep).cpu().numpy(), np.packbits(keep.cpu().numpy(), axis=1))
    expected = gini(score.cpu(), curves.order.cpu())
    found = gini(score, curves.sorted_columns).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_equal_scores_have_a_gini_of_exactly_zero():
    score = torch.full((3, 2**15), 0.3, device="cuda")
    order = torch.arange(2**15, device="cuda").expand(3, -1).to(torch.int16).contiguous()
    assert gini(score, order).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("layer", LAYERS[:3], ids=str)
def test_a_record_is_what_its_parts_say(layer):
    curves, score = layer.curves("cuda"), layer.arrays()[2].cuda()
    result = trim.search(curves, trim.SearchSettings(0.5))
    record = layer_record(
        "0.mlp.up_proj",
        ScoredLayer(curves, score),
        result.counts,
        budget=0.5,
        allocation="trim",
        score_name="wanda",
        search=result,
        keep=keep_mask(curves.ranks, result.counts),
    )
    assert record.realised_quality == pytest.approx(result.realised_quality, rel=1e-5)
    assert record.uniform_quality == pytest.approx(result.uniform_realised_quality, rel=1e-5)
    np.testing.assert_array_equal(record.counts, result.counts.cpu())
    np.testing.assert_array_equal(record.keep().sum(axis=1), layer.columns - record.counts)
    np.testing.assert_allclose(record.weight_norm, curves.weight.norm(dim=1).cpu(), rtol=1e-5)
    cosine = curves.cosine_at(torch.from_numpy(curve_counts(layer.columns)).cuda())
    np.testing.assert_array_equal(record.cosine_curve, cosine.cpu().numpy().astype(np.float16))
    np.testing.assert_array_equal(record.search.quality, result.trace.quality)
