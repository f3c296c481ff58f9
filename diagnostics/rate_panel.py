"""The chart of learning rates among the linked charts of a layer."""

import numpy as np

from diagnostics.format import change, rate_label
from diagnostics.learning_rate import LearningRateTrace, rate_summaries
from diagnostics.panel_parts import LAST_STEP, Axis, LayerNumbers, Mark, Panel, number_axis

RATES = "Which learning rate beats uniform?"


def rate_panel(
    shown: LayerNumbers, pinned: LayerNumbers | None, arrays: dict[str, np.ndarray]
) -> tuple[Panel, tuple[float, ...]]:
    """Return the panel, and the horizontal position of each rate of the shown layer."""
    empty = Axis("learning rate η", 0.0, 1.0, ())
    if shown.trace is None:
        return Panel("rate", RATES, empty, empty, note="No learning rate was searched here."), ()
    if not np.isfinite(shown.trace.uniform_quality):
        note = "Uniform pruning loses nothing measurable here. Raise the target, or choose another quality."
        return Panel("rate", RATES, empty, empty, note=note), ()
    traces = [(shown.trace, False)]
    if (
        pinned is not None
        and pinned.trace is not None
        and pinned.trace.layer_measure == shown.trace.layer_measure
    ):
        traces.append((pinned.trace, True))
    rates = sorted({rate for trace, _ in traces for rate in trace.rates.tolist()})
    position = {rate: float(index) for index, rate in enumerate(rates)}
    low, high = _gain_limits([trace for trace, _ in traces])
    marks = [Mark("rule", "uniform", y=[0.0], text="uniform")]
    for trace, is_pinned in traces:
        marks += _rate_marks(trace, position, low, high, is_pinned)
    if shown.rate_sparsity is not None:
        none = LAST_STEP["uint8"]
        steps = np.full((len(shown.gini), len(rates)), none, dtype=np.uint8)
        least, most = np.nanmin(shown.rate_sparsity), np.nanmax(shown.rate_sparsity)
        span = float(most - least) or 1.0
        target = int(np.clip(np.floor((shown.target - least) / span * (none - 1)), 0, none - 2))
        for rate, x in zip(shown.trace.rates.tolist(), shown.rate_sparsity, strict=True):
            if np.isfinite(x).all():
                # A row is above the target's step just where it is above the target.
                nearest = np.rint((x - least) / span * (none - 1))
                steps[:, int(position[rate])] = np.where(
                    x > shown.target, np.maximum(nearest, target + 1), np.minimum(nearest, target)
                )
        arrays["rates"] = steps
        arrays["rate_limits"] = np.array([least, most], dtype=np.float32)
        arrays["rate_target"] = np.array([target], dtype=np.float32)
    panel = Panel(
        "rate",
        RATES,
        Axis(
            "learning rate η",
            -0.6,
            len(rates) - 0.4,
            tuple((position[rate], rate_label(rate)) for rate in rates),
        ),
        number_axis("gain over uniform", low, high, max_ticks=5, signed=True),
        tuple(marks),
    )
    return panel, tuple(position[rate] for rate in shown.trace.rates.tolist())


def _gain_limits(traces: list[LearningRateTrace]) -> tuple[float, float]:
    """Return limits that hold every gain, and losses of similar size, which the published quality may choose."""
    finite = np.concatenate(
        [*(trace.kept_gain[np.isfinite(trace.kept_gain)] for trace in traces), np.zeros(1)]
    )
    top, bottom = float(finite.max()), float(finite.min())
    for trace in traces:  # hold the crosses of the published quality, unless they would flatten the chart
        if trace.published is not None and trace.tried.any():
            crosses = np.nanmax(trace.published[trace.tried]) - trace.uniform_quality
            top = max(top, min(float(crosses), 1.5 * top))
    size = top or -bottom or 1e-6
    return max(bottom, -size) - 0.12 * size, 1.3 * top if top > 0 else 0.3 * size


def _rate_marks(
    trace: LearningRateTrace, x_of: dict[float, float], low: float, high: float, is_pinned: bool
) -> list[Mark]:
    marks = []
    summaries = [each for each in rate_summaries(trace) if each.drawn]
    for name, style, symbol in (
        ("positive", "gain", "triangle-up"),
        ("negative", "loss", "triangle-down"),
        ("not tried", "muted", "circle-open"),
    ):
        drawn = [each for each in summaries if _sort_of(each.rate, each.tried) == name]
        if not drawn:
            continue
        marks.append(
            Mark(
                "points",
                style,
                [x_of[each.rate] for each in drawn],
                [float(np.clip(each.gain or 0.0, low, high)) for each in drawn],
                pinned=is_pinned,
                symbol=symbol,
                labels=[
                    f"η = {rate_label(each.rate)}: "
                    + (f"{change(each.gain)} over uniform" if each.gain else "no iteration beats uniform")
                    + ("" if each.tried else ", not tried by the search")
                    for each in drawn
                ],
            )
        )
    if not is_pinned:
        crosses = [
            (x_of[each.rate], each.published - trace.uniform_quality)
            for each in summaries
            if each.published is not None
            and each.tried
            and low <= each.published - trace.uniform_quality <= high
        ]
        if crosses:
            marks.append(
                Mark("points", "ink", [x for x, _ in crosses], [y for _, y in crosses], symbol="cross")
            )
    for each in sorted(summaries, key=lambda each: not each.chosen):
        if not each.label:
            continue
        x, y = x_of[each.rate], float(np.clip(each.gain or 0.0, low, high))
        marks.append(
            Mark("points", "ink", [x], [y], pinned=is_pinned, symbol="ring" if each.chosen else "box")
        )
        if not is_pinned:  # the word is above the cross of the published quality
            crossed = -np.inf if each.published is None else each.published - trace.uniform_quality
            above = max(y, crossed) if crossed <= high else y
            marks.append(Mark("points", "ink", [x], [above], text=each.label))
    return marks


def _sort_of(rate: float, tried: bool) -> str:
    return ("positive" if rate > 0 else "negative") if tried else "not tried"
