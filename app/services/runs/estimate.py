"""Estimate the time of a run from the last run whose costly options were the same."""

from collections.abc import Iterable

from app.services.runs.store import StoredRun
from trim.runs.options import idle_options, options
from trim.runs.settings import PruneSettings


def estimated_seconds(settings: PruneSettings, runs: Iterable[StoredRun]) -> float | None:
    """Return the seconds of the first complete run with the same costly options; None: there is none.

    Args:
        settings: the settings of the new run.
        runs: stored runs, the newest first; shipped runs are skipped, as they were made on another machine.
    """
    wanted = _costly(settings)
    for entry in runs:
        if entry.shipped or entry.run is None or not entry.run.complete or entry.run.kind != "model":
            continue
        if _costly(entry.run.request) == wanted:
            return entry.run.metrics.get("seconds")
    return None


def _costly(settings: PruneSettings) -> dict[str, object]:
    """Return the options that decide how long a run takes."""
    idle = idle_options(settings)
    return {
        name: getattr(settings, name)
        for name, each in options(PruneSettings).items()
        if each.affects_time and name not in idle
    }
