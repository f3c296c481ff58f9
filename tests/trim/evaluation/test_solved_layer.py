"""One layer solved: its numbers against float64 over all tokens."""

import numpy as np
import pytest
import torch

import trim
from tests.trim import rough
from trim.methods.least_squares import TextProducts


def sample(weight, inputs):
    gram = inputs @ inputs.T
    norm = inputs.square().sum(dim=1).sqrt()
    return trim.LayerSample("0.mlp.up_proj", weight, inputs[:, :8], norm, TextProducts(gram, gram))


@pytest.mark.parametrize("method", ["solved", "alps", "sparsegpt"])
def test_errors_and_moves(method):
    generator = torch.Generator().manual_seed(0)
    weight, inputs = (torch.randn(*shape, generator=generator) for shape in ((8, 16), (16, 200)))
    weight[3] = 0  # a row without output
    other = torch.rand(8, 16, generator=generator) > 0.6
    seen = []
    found = trim.solve_layer(
        sample(weight, inputs), 0.6, method, masks={"other": other}, progress=seen.append
    )
    assert int(found.counts.sum()) == round(0.6 * 128)
    assert seen
    assert not bool(found.weight[~found.keep].any())
    w, x, keep = weight.double().numpy(), inputs.double().numpy(), found.keep.numpy()
    changed = found.weight.double().numpy()
    with np.errstate(invalid="ignore"):
        energy = ((w @ x) ** 2).sum(1)
        lefts = {"solved": changed, "masked": w * keep, "other": w * other.numpy()}
        errors = {"solved": found.error, "masked": found.error_masked, **found.errors}
        for name, left in lefts.items():
            got = errors[name]
            expected = (((w - left) @ x) ** 2).sum(1) / energy
            np.testing.assert_allclose(got, expected, rtol=1e-4)
            whole = (((w - left) @ x) ** 2).sum() / energy.sum()
            assert found.of_layer(got) == pytest.approx(whole, rel=1e-4)
        moved = np.linalg.norm(changed - w * keep, axis=1) / np.linalg.norm(w * keep, axis=1)
    np.testing.assert_allclose(found.moved, moved, rtol=1e-5)
    assert np.isnan(found.moved[3])
    assert found.of_layer(found.error) < found.of_layer(found.error_masked)


def test_what_cannot_be_solved():
    weight, inputs = torch.randn(4, 6), torch.randn(6, 30)
    with pytest.raises(trim.SettingsError, match="solver 'trim' is not one of solved, alps, sparsegpt"):
        trim.solve_layer(sample(weight, inputs), 0.5, "trim")
    with pytest.raises(trim.SparsityError, match="a share from 0 to 1"):
        trim.solve_layer(sample(weight, inputs), 1.5)
    for sparsity in (0, 1):
        found = trim.solve_layer(sample(weight, inputs), sparsity)
        np.testing.assert_allclose(found.error, sparsity, atol=1e-6)


def test_products_of_a_text(llama):
    """All tokens of it, and as many as the layer has inputs."""
    model = trim.load_model(llama, device="cpu", dtype="float32")
    name = "1.mlp.down_proj"
    received = []
    windows = rough.random_tokens()
    with model.layers[name].register_forward_pre_hook(lambda module, given: received.append(given[0])):
        got = trim.capture(model, windows, [name], products=True)[name]
    vectors = torch.cat([each.flatten(0, 1) for each in received]).double()
    torch.testing.assert_close(got.text.gram.double(), vectors.T @ vectors, rtol=1e-4, atol=1e-4)
    assert trim.capture(model, windows, [name])[name].text is None
