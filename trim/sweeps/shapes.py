"""The shapes of the JSON files of sweeps."""

from typing import NotRequired, TypedDict

from trim.runs.shapes import PerplexityEntry, RecordHead


class SweepSettingsJson(TypedDict):
    """The settings of a sweep."""

    model: str
    grid: dict[str, list[object]]
    shared: dict
    texts: list[dict]


class SweepConfig(RecordHead):
    """`sweep.json`."""

    keep_masks: NotRequired[bool]
    settings: SweepSettingsJson


class DenseMetrics(TypedDict, total=False):
    """`dense.json` of a sweep."""

    perplexities: list[PerplexityEntry]


class Problem(TypedDict, total=False):
    """`<cell>.problem.json` of a sweep."""

    problem: str
