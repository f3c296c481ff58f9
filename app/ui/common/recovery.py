"""A recovery on a page: its progress, its curve, and how far weights moved."""

import functools

import numpy as np
import streamlit as st

from app.services.jobs.manager import JOBS
from app.services.jobs.records import JobState
from app.services.results.recovered import medians_moved, moved_figure, moved_text
from app.ui.common.cards import View, card, theme
from app.ui.common.guard import guarded
from app.ui.common.jobs import running_job, stopped_job
from app.ui.common.open_figure import rerun_page
from app.ui.common.text import literal
from diagnostics.figures.recovery import held_out_figure, rows_moved_figure
from diagnostics.format import number, percent
from trim.runs.recovery import Recovery, is_recovery, open_recovery

POLL_SECONDS = 1.0
CURVE_FORMULA = r"""
$$
\mathrm{KL} = \frac{1}{n}\sum_t\sum_x p(x \mid x_{<t}) \log\frac{p(x \mid x_{<t})}{q(x \mid x_{<t})},\qquad
\mathrm{perplexity} = \exp\Big(-\tfrac{1}{n}\textstyle\sum_t \log q(x_t \mid x_{<t})\Big)
$$

$p$ is the dense model, $q$ the pruned one while it is trained, $x_t$ the tokens of the held-out windows.
"""
MOVED_FORMULA = r"""
Moved: $\|\hat w - w\| / \|w\|$ over the kept weights $w$ of a row; of a layer the median over its rows.
"""
_CURVES = {"Perplexity": ("perplexity", "held-out windows"), "Divergence": ("divergence", "nats per token")}


def recovery_views(recovery: Recovery) -> None:
    """Show a recovery: its progress while it runs or waits, its curve, and how far weights moved."""
    state = JOBS.state(recovery.id, recovery)
    if state.active:
        _live(recovery.id)
        return
    if not recovery.complete:
        _stopped(recovery, state)
    elif state.message:
        st.warning(f"The recovery is complete; after it: {literal(state.message)}", icon=":material/warning:")
    if recovery.metrics.get("curve"):
        left, right = st.columns(2)
        with left:
            curve_card(recovery)
        with right:
            if recovery.complete:
                with guarded():
                    moved_card(recovery)


def watch_recovery(recovery_id: str) -> None:
    """Show a recovery without a folder: it is starting, or it failed to start."""
    state = JOBS.state(recovery_id)
    if state.active:
        _live(recovery_id)
    elif state.message:
        st.error(literal(state.message), icon=":material/error:")


@st.fragment(run_every=POLL_SECONDS)
def _live(recovery_id: str) -> None:
    state = JOBS.state(recovery_id)
    if not state.active:
        rerun_page()
        return
    running_job(
        recovery_id,
        state,
        "recovery",
        first="the models are checked",
        kept="What was trained stays, and the recovery can be resumed.",
    )
    with guarded():
        path = JOBS.path(recovery_id)
        if is_recovery(path) and (recovery := open_recovery(path)).metrics.get("curve"):
            curve_card(recovery)


def _stopped(recovery: Recovery, state: JobState) -> None:
    stopped_job(
        recovery.id,
        "recovery",
        title=f"**This recovery stopped.** {literal(state.message)}",
        resumed="It resumes where it was stopped; one that was killed, at most a minute before.",
    )


def curve_card(recovery: Recovery) -> None:
    """Show the losses on the held-out windows."""
    metrics = recovery.metrics
    curve, best = metrics["curve"], metrics["best"]
    seconds = np.array([each["seconds"] for each in curve])

    def view(name: str) -> View:
        what, unit = _CURVES[name]
        values = np.array([each[what] for each in curve])  # type: ignore[literal-required]  # a key of the table
        finding = (
            f"Held-out {what} {number(values[0])} before, {number(values[best])} after "
            f"{curve[best]['step']:,} steps in "
            f"{seconds[best]:.0f} s."
        )
        return View(
            held_out_figure(seconds, values, best, what=what, unit=unit, theme=theme()),
            finding,
            CURVE_FORMULA,
            "A line over the time of training",
            lambda: {"step": np.array([each["step"] for each in curve]), "seconds": seconds, what: values},
        )

    variants = {name: functools.partial(view, name) for name in _CURVES}
    card("recovery_curve", variants, file_name=f"{recovery.id}-held-out")


def moved_card(recovery: Recovery) -> None:
    """Show how far the kept weights moved, by layer, and for one layer by row."""
    moved = recovery.rows_moved()
    chosen = st.selectbox("Layer whose rows are shown", list(moved), len(moved) // 2, key="moved_layer")
    card(
        "recovery_moved",
        {"Layers": lambda: _layers_moved(moved), "Rows": lambda: _rows_moved(chosen, moved[chosen])},
        file_name=f"{recovery.id}-moved",
    )


def _layers_moved(moved: dict[str, np.ndarray]) -> View:
    medians = medians_moved(moved)
    return View(
        moved_figure(medians, theme()),
        moved_text(medians),
        MOVED_FORMULA,
        "Heat map, block by layer type",
        lambda: {"layer": np.array(list(medians), dtype=str), "moved": np.array(list(medians.values()))},
    )


def _rows_moved(layer: str, rows: np.ndarray) -> View:
    finite = rows[np.isfinite(rows)]
    finding = f"{layer} keeps no weights."
    if finite.size:
        finding = (
            f"Rows of {layer} moved by {percent(finite.min())} to {percent(finite.max())}, half of them "
            f"by {percent(np.median(finite))} "
            "or more."
        )
    return View(
        rows_moved_figure(rows, theme()),
        finding,
        MOVED_FORMULA,
        "A step line",
        lambda: {"row": np.arange(len(rows)), "moved": rows},
    )
