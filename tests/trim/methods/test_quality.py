"""Each quality against the dense and the pruned output themselves, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trim
from tests.trim import oracle

LAYER = sorted(trim.LAYER_QUALITIES)
ROW = sorted(trim.ROW_QUALITIES)
PUBLISHED = {"cosim_flat", "cosim_dim", "cosim_sample", "mse", "mse_dim", "mae", "snr",
             "psnr_flat", "psnr_dim", "psnr_sample"}  # fmt: skip


class Layer:
    """A random layer, its curves, and its outputs at some counts."""

    def __init__(self, seed: int, rows: int = 7, columns: int = 19, vectors: int = 5, dead: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.weight = generator.standard_normal((rows, columns)).astype(np.float32)
        self.weight[generator.permutation(rows)[:dead]] = 0
        self.inputs = generator.standard_normal((columns, vectors)).astype(np.float32)
        self.score = (np.abs(self.weight) * np.linalg.norm(self.inputs, axis=1)).astype(np.float32)
        self.curves = trim.retention_curves(
            torch.from_numpy(self.weight), torch.from_numpy(self.inputs), torch.from_numpy(self.score)
        )
        self.counts = generator.integers(0, columns + 1, (4, rows))
        self.counts[0, :2] = 0, columns

    @property
    def retained(self):
        return self.curves.at(torch.from_numpy(self.counts))

    def outputs(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = self.inputs.astype(np.float64)
        dense = self.weight.astype(np.float64) @ inputs
        return dense, oracle.prune(self.weight, self.score, counts) @ inputs


layers = st.builds(
    Layer,
    seed=st.integers(0, 500),
    rows=st.integers(2, 9),
    columns=st.integers(1, 24),
    vectors=st.integers(1, 6),
    dead=st.integers(0, 2),
)


def absolute_tolerance(name: str, expected: np.ndarray) -> np.ndarray | float:
    """A noise far below the signal is the difference of float32 outputs: its decibels hold fewer digits."""
    if "snr" not in name:
        return 1e-6
    rounding = 5e-7 * 10 ** (np.where(np.isfinite(expected), expected, 0.0) / 20)  # relative, of the noise
    return 2e-5 + 20 / np.log(10) * rounding.max()


def test_every_published_quality_is_there():
    assert set(LAYER) == PUBLISHED
    assert set(ROW) == {"cosim", "mse", "psnr"}


@pytest.mark.parametrize("name", LAYER)
@given(layer=layers)
def test_layer_quality(name, layer):
    quality = trim.layer_quality(layer.retained, name)
    assert quality.dtype == torch.float64
    expected = [oracle.layer_quality(*layer.outputs(counts), name) for counts in layer.counts]
    np.testing.assert_allclose(quality.numpy(), expected, rtol=2e-6, atol=absolute_tolerance(name, expected))


@pytest.mark.parametrize("name", ROW)
@given(layer=layers)
def test_row_quality(name, layer):
    quality = trim.row_quality(layer.retained, name)
    assert quality.dtype == torch.float64
    expected = np.stack([oracle.row_quality(*layer.outputs(counts), name) for counts in layer.counts])
    np.testing.assert_allclose(quality.numpy(), expected, rtol=5e-6, atol=2e-4 if name == "psnr" else 1e-6)


@pytest.mark.parametrize(
    ("measure", "name"), [(trim.layer_quality, n) for n in LAYER] + [(trim.row_quality, n) for n in ROW]
)
@pytest.mark.parametrize("dead", [0, 2])
def test_a_batch_of_candidates_equals_single_ones(measure, name, dead):
    layer = Layer(3, rows=37, dead=dead)
    counts = torch.from_numpy(layer.counts)
    single = torch.stack([measure(layer.curves.at(candidate), name) for candidate in counts])
    assert torch.equal(measure(layer.curves.at(counts), name), single)
    nested = measure(layer.curves.at(counts.view(2, 2, -1)), name)
    assert torch.equal(nested, single.view(2, 2, *single.shape[1:]))


@pytest.mark.parametrize("name", LAYER)
def test_nothing_pruned_is_best_and_everything_pruned_is_worst(name):
    layer = Layer(4)
    levels = torch.tensor([0, 10, 19])[:, None].expand(3, 7)
    dense, half, nothing = trim.layer_quality(layer.curves.at(levels), name).tolist()
    assert dense > half > nothing
    assert dense == {"snr": float("inf")}.get(name, pytest.approx(dense))


def test_snr_is_infinite_below_the_noise_floor_and_only_there():
    weight = torch.tensor([[1e-3, 1.0], [2e-6, 1.0]])
    curves = trim.retention_curves(weight, torch.ones(2, 1), weight)
    counts = torch.tensor([[0, 0], [0, 1], [1, 0]])  # noise power 0, 2e-12 and 5e-7
    quality = trim.layer_quality(curves.at(counts), "snr").tolist()
    assert quality[:2] == [float("inf"), float("inf")]
    assert quality[2] == pytest.approx(10 * np.log10((1.001**2 + 1.000002**2) / 2 / 5e-7), abs=1e-2)


def test_psnr_of_an_intact_row_is_its_peak_over_the_noise_floor():
    weight = torch.tensor([[3.0, -4.0]])
    curves = trim.retention_curves(weight, torch.eye(2), weight.abs())
    for quality in (
        trim.row_quality(curves.at(torch.tensor([0])), "psnr"),
        trim.layer_quality(curves.at(torch.tensor([0])), "psnr_flat"),
    ):
        assert float(quality) == pytest.approx(10 * np.log10(16 / 1e-10))


@pytest.mark.parametrize("name", LAYER)
def test_a_layer_without_output_has_a_quality_that_is_a_number(name):
    curves = trim.retention_curves(torch.zeros(3, 4), torch.ones(4, 2), torch.zeros(3, 4))
    assert not np.isnan(float(trim.layer_quality(curves.at(torch.tensor([1, 2, 3])), name)))


@pytest.mark.parametrize("name", ["psnr_sample", "cosim_sample"])
def test_vectors_on_which_the_layer_is_silent(name):
    layer = Layer(6, columns=8)
    inputs = torch.from_numpy(layer.inputs)
    inputs[:, 2] = 0
    layer.curves = trim.retention_curves(
        torch.from_numpy(layer.weight), inputs, torch.from_numpy(layer.score)
    )
    expected = [oracle.layer_quality(*layer.outputs(counts), name) for counts in layer.counts]
    np.testing.assert_allclose(trim.layer_quality(layer.retained, name).numpy(), expected, rtol=1e-5)


def test_unknown_names_list_the_known_ones():
    layer = Layer(7)
    for measure, known, kind in (
        (trim.layer_quality, LAYER, "layer quality"),
        (trim.row_quality, ROW, "row quality"),
    ):
        with pytest.raises(trim.SettingsError, match=f"no {kind} named 'cosine'") as caught:
            measure(layer.retained, "cosine")
        assert all(name in str(caught.value) for name in known)
