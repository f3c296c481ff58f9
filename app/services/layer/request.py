"""The settings of the run that an explored layer corresponds to, for keeping or comparing it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from app.services.layer.keys import SENSITIVITY_WINDOWS
from trim.runs.settings import PruneSettings

if TYPE_CHECKING:
    from app.services.layer.study import Outcome, Study


def request_of(study: Study, outcome: Outcome, method: str) -> PruneSettings:
    """Return the settings of a run of one layer.

    Args:
        study: the study that is explored.
        outcome: its outcome at the chosen target.
        method: "uniform", "trim" or "optimal".
    """
    key, settings = study.key, outcome.result.settings
    shared = {**vars(key.sample), **vars(settings)}  # a run has the same names for them, but for the target
    request = PruneSettings(
        model=key.model.source,
        target=shared.pop("target_sparsity"),
        allocation=method,
        score=key.score,
        layers=(key.layer,),
        device=key.model.device,
        dtype=key.model.dtype,
        **shared,
    )
    if method == "optimal":
        best = outcome.optimum
        request = dataclasses.replace(
            request,
            max_row_sparsity=best.cap,
            row_weights=best.row_weights,
            sensitivity_windows=SENSITIVITY_WINDOWS,
        )
    return request
