"""A live layer solved: the row sparsities next to TRIM's and the optimum's, the rows' errors, how far weights moved."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.services.layer.keys import SolutionKey
from app.services.runs.layer import METHOD_LABELS
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.segments import segments
from app.ui.common.seminar import presenter_only
from app.ui.common.waiting import NothingToShow, laboratory, result_or_stop
from app.ui.layer.live import is_live
from diagnostics.allocation import RowAllocation, row_scatter
from diagnostics.comparison import compare_allocations
from diagnostics.distributions import RowNumbers, distributions
from diagnostics.figures.distributions import ANY_ERROR, ecdf_figure
from diagnostics.figures.scatter import pair_figure, row_scatter_figure
from diagnostics.format import percent
from trim.methods.agreement import mask_agreement
from trim.methods.choices import SOLVERS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    import trim
    from app.services.layer.study import Outcome, Study
    from app.ui.layer.more import ShownLayer

FORMULA = r"""
$$
\min_{\hat W} \; \sum_i f_i \left( \lVert w_i X - \hat w_i X \rVert^2 + \lambda \lVert w_i - \hat w_i \rVert^2 \right)
\quad\text{with as many weights that are not 0 as TRIM keeps}
$$

A solver chooses the mask and the kept weights $\hat W$ of the layer together, over all tokens $X$ of the text: so a
kept weight makes up for pruned ones. *Solved* weighs rows by their sensitivity $f_i$ where the optimum does; ALPS and
SparseGPT weigh all alike. A row's error is $\lVert w_i X - \hat w_i X \rVert^2 / \lVert w_i X \rVert^2$; it moved by
$\lVert \hat w_i - w_i \rVert / \lVert w_i \rVert$ over its kept weights.
"""


def solution_of(study: Study, outcome: Outcome, solver: str) -> trim.SolvedLayer:
    """Return the solved layer of an outcome, once the reader asks for it.

    Raises:
        NothingToShow: there is no result; the page says why.
    """
    if not presenter_only("Solving a layer"):
        raise NothingToShow
    weighed = outcome.optimum.sensitivity is not None
    key = SolutionKey(study.key, outcome.result.settings, weighed, solver)
    laboratory_ = laboratory()
    if not laboratory_.started(key):
        label = "Solve the layer" + ("" if solver == "solved" else f" by {METHOD_LABELS[solver]}")
        progress = st.container().empty()
        with progress.container():
            pressed = st.button(label, type="primary", icon=":material/functions:", key=f"solve_{solver}")
            st.caption("The text goes through the model once for this layer; each target then takes seconds.")
        if not pressed:
            raise NothingToShow
        progress.empty()
    model = result_or_stop(laboratory_.model(study.key.model), study.key.model)
    return result_or_stop(laboratory_.solution(key, model, outcome), key, "Solving the layer")


def solved_section(shown: ShownLayer) -> None:
    """Choose a solver, and show the layer that it solved at its target."""
    assert shown.live is not None, "the list of views asks"
    study, outcome = shown.live
    if not is_live(study):
        st.info("This is computed with the live model, which is being loaded.", icon=":material/bolt:")
        return
    solver = segments("Solver", SOLVERS, "solver", format_func=METHOD_LABELS.__getitem__, bind="query-params")
    try:
        found = solution_of(study, outcome, solver)
    except NothingToShow:
        return
    solved_card(found, outcome, shown.rows, shown.file_name)


def solved_card(found: trim.SolvedLayer, outcome: Outcome, rows: list[int], file_name: str) -> None:
    """Draw a solved layer next to TRIM and the optimum."""
    view, label = outcome.view, METHOD_LABELS[found.method]
    own = RowAllocation(found.method, label, found.counts, view.columns)
    finding = solved_finding(found, outcome)

    def drawn(figure: go.Figure, alt: str) -> View:
        return View(figure, finding, FORMULA, alt, lambda: row_numbers(found, outcome))

    def against(method: str) -> View:
        pair = compare_allocations(view.allocation(method), own)
        return drawn(
            pair_figure(pair, rows, theme()), f"A point per row, under {METHOD_LABELS[method]} and {label}"
        )

    def errors() -> View:
        sets = {METHOD_LABELS[name]: each for name, each in found.errors.items()}
        sets |= {f"{label}, mask alone": found.error_masked, label: found.error}
        numbers = [RowNumbers(name, each, slot) for slot, (name, each) in enumerate(sets.items())]
        return drawn(
            ecdf_figure(distributions(numbers), ANY_ERROR, theme()), "Distributions of the rows' errors"
        )

    def moved() -> View:
        scatter = row_scatter(own, "row_moved", found.moved, rows)
        alt = explanations.scatter_finding(scatter).removesuffix(".")
        return drawn(row_scatter_figure([scatter], rows, theme()), alt)

    card(
        "solved",
        {
            **{f"Against {METHOD_LABELS[name]}": partial(against, name) for name in found.errors},
            "Errors": errors,
            "Moves": moved,
        },
        file_name=file_name,
        bind="query-params",
        brief=True,
    )


def solved_finding(found: trim.SolvedLayer, outcome: Outcome) -> str:
    """Describe the layer's error with and without solved weights and under other masks, and how far weights moved."""
    label = METHOD_LABELS[found.method]
    if not np.isfinite(found.of_layer(found.error)):
        return "The layer has no output on this text: there is nothing to lose."
    others = " and ".join(
        f"{percent(found.of_layer(each))} by {METHOD_LABELS[name]}" for name, each in found.errors.items()
    )
    keep = found.keep.numpy(force=True)
    shared = " and ".join(
        f"{mask_agreement(keep, outcome.view.masks[name]()).whole:.0%} with {METHOD_LABELS[name]}"
        for name in found.errors
    )
    moved = found.moved[np.isfinite(found.moved)]
    sentences = [
        f"{label} leaves the layer an error of {percent(found.of_layer(found.error))} of its output; its mask alone "
        f"{percent(found.of_layer(found.error_masked))}, masks {others}.",
        f"Of the weights that either keeps it shares {shared}.",
    ]
    if moved.size:
        sentences.append(f"A row's kept weights moved by {percent(float(np.median(moved)))} (median).")
    if found.diverged:
        sentences.append("Its search diverged: these are the largest weights, refitted.")
    return " ".join(sentences)


def row_numbers(found: trim.SolvedLayer, outcome: Outcome) -> dict[str, np.ndarray]:
    """Return a table with one line per row."""
    view = outcome.view
    return {
        "row": np.arange(view.rows),
        f"row_sparsity_{found.method}": found.counts / view.columns,
        **{f"row_sparsity_{name}": view.allocation(name).row_sparsity for name in found.errors},
        "row_error": found.error,
        "row_error_masked": found.error_masked,
        **{f"row_error_{name}": each for name, each in found.errors.items()},
        "row_moved": found.moved,
    }
