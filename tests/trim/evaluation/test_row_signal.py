"""Error bars on what TRIM learns: draws against searches made one by one, shares against their definitions."""

import numpy as np
import pytest
import torch

import trim
from tests.app.small import layer_sample
from trim.methods.signal import RowSignal


def test_draws_are_searches_of_the_resampled_vectors():
    sample, settings = layer_sample(columns=40, seed=3), trim.SearchSettings(0.5)
    found = trim.row_signal(trim.resampled(sample, 3, vectors=9, seed=7), settings)
    generator = torch.Generator().manual_seed(7)
    score = trim.wanda_score(sample.weight, sample.input_norm)
    for draw in range(3):
        chosen = torch.randint(sample.inputs.shape[1], (9,), generator=generator)
        result = trim.search(trim.retention_curves(sample.weight, sample.inputs[:, chosen], score), settings)
        assert (found.sparsity[draw] == result.counts.numpy() / 40).all()
        assert found.rates[draw] == result.learning_rate
    assert np.ptp(found.gini, axis=0).max() == 0  # the score has not changed
    assert found.columns()["uncertainty"].shape == (sample.weight.shape[0],)
    with pytest.raises(trim.SettingsError, match="two draws or more, not 1"):
        trim.row_signal(trim.resampled(sample, 1), settings)


def test_the_share_of_signal_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    truth = rng.normal(0.5, 0.1, 4000)
    sparsity = truth + rng.normal(0, 0.05, (10, 4000))
    found = RowSignal(sparsity, sparsity, (0.01,) * 10, ("",) * 10)
    assert found.signal_share == pytest.approx(0.1**2 / (0.1**2 + 0.05**2), abs=0.01)
    draws = sum(np.var(row, ddof=1) for row in sparsity.T) / 4000
    rows = np.var([row.mean() for row in sparsity.T], ddof=1) - draws / 10
    assert found.signal_share == pytest.approx(rows / (rows + draws), rel=1e-9)
    distance, width = abs(sparsity.mean(0) - sparsity.mean()), 2 * sparsity.std(0, ddof=1)
    assert found.significant_share == pytest.approx(np.mean(distance > width))
    noise = RowSignal(0.5 + rng.normal(0, 0.05, (10, 4000)), sparsity, (None,) * 10, ("",) * 10)
    assert noise.signal_share < 0.01
    assert noise.significant_share < 0.01
    alike = RowSignal(np.full((3, 5), 0.5), np.zeros((3, 5)), (None,) * 3, ("",) * 3)
    assert np.isnan(alike.signal_share)
    assert alike.significant_share == 0
    one_row = RowSignal(np.full((3, 1), 0.5), np.zeros((3, 1)), (None,) * 3, ("",) * 3)
    assert np.isnan(one_row.signal_share)
