"""Training: the rate follows the damage, and a loss that is not a number goes back to the best weights."""

import math

import pytest
import torch

import trim
from tests.trim.recovery.models import OPTIONS, weights
from trim.progress import Progress
from trim.recovery import training
from trim.recovery.divergence import divergence
from trim.recovery.events import Began


def test_a_loss_that_is_not_a_number_goes_back_to_the_best(run, tmp_path, monkeypatch):
    calls: list[None] = []
    always = False

    def broken(student: torch.Tensor, dense: torch.Tensor, scale: float) -> torch.Tensor:
        calls.append(None)
        return divergence(student, dense, math.nan if always or len(calls) == 5 else scale)

    monkeypatch.setattr(training, "divergence", broken)
    reported: list[object] = []
    ended = trim.recover(
        run.path, tmp_path / "nan", **OPTIONS, listener=reported.append, progress=reported.append
    )
    needed = next(place for place, event in enumerate(reported) if isinstance(event, Began))
    assert needed < reported.index(Progress("Loading both models")), "what memory it needs is said before"
    assert ended.metrics["restarts"] == [6]
    assert any("back to the best weights so far, at half the rate" in str(event) for event in reported)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(ended.model).values())
    curve = [each["divergence"] for each in ended.metrics["curve"]]
    assert min(curve) == curve[ended.metrics["best"]] < curve[0]
    always = True
    ended = trim.recover(run.path, tmp_path / "always", **OPTIONS, listener=reported.append)
    assert len(ended.metrics["restarts"]) == training.MAX_RESTARTS + 1
    assert ended.metrics["best"] == 0, "the result is the run as it was"
    assert any("the loss was not a number again and again" in str(event) for event in reported)


def test_the_rate_follows_the_damage():
    assert training.highest_rate(None, 0.25) == pytest.approx(0.001)
    assert training.highest_rate(None, 7.0) == pytest.approx(0.002)
    assert training.highest_rate(0.003, 7.0) == 0.003
