"""The last lesson: a layer of a real model, as a stored run recorded it. No model is loaded."""

import numpy as np
import streamlit as st

from app.services.runs.layer import LayerView
from app.services.runs.store import STORE
from app.ui.common import explanations
from app.ui.common.cards import View, theme
from app.ui.common.guard import guarded
from app.ui.common.present import kept
from app.ui.learn.step import Check, Step
from diagnostics.allocation import row_scatter
from diagnostics.figures.scatter import row_scatter_figure
from trim.runs.folder import Run

LAYER = "mlp.down_proj"
DEFAULT_BLOCK = 15


def real_run() -> Run | None:
    """Return the run that the lesson shows: TRIM on a whole model, a shipped one if there is one."""
    stored = [
        entry
        for entry in STORE.runs()
        if entry.run is not None
        and entry.run.request.allocation == "trim"
        and any(name.endswith(f".{LAYER}") for name in entry.run.layers)
    ]
    stored.sort(key=lambda entry: not entry.shipped)
    return stored[0].run if stored else None


def _outcomes(run: Run) -> str:
    """Count how often each sign won among the run's layers of this kind."""
    searches = [run.numbers(name).get("search") for name in run.layers if name.endswith(f".{LAYER}")]
    rates = [search["learning_rate"] or 0.0 for search in searches if search is not None]
    positive, negative = sum(rate > 0 for rate in rates), sum(rate < 0 for rate in rates)
    return (
        f"Of the {len(rates)} layers of this kind {positive} took a positive rate, {negative} a negative one, and "
        f"{len(rates) - positive - negative} stayed uniform."
    )


def _layer() -> tuple[str, LayerView] | None:
    run = real_run()
    if run is None:
        st.info(
            "There is no run of TRIM on a whole model yet. Make one on the page Model, or with `python -m trim prune "
            "demo --target 0.7 --out runs/first`.",
            icon=":material/info:",
        )
        return None
    names = [name for name in run.layers if name.endswith(f".{LAYER}")]
    blocks = [int(name.partition(".")[0]) for name in names]
    block = blocks[0]
    if len(blocks) > 1:
        block = st.select_slider(
            f"Block of the model (its layer {LAYER})",
            blocks,
            DEFAULT_BLOCK if DEFAULT_BLOCK in blocks else blocks[len(blocks) // 2],
            key="real_block",
            bind="query-params",
        )
    with guarded():
        return _outcomes(run), LayerView.of(run, STORE.layer(run.id, f"{block}.{LAYER}"))
    return None


def _view(shown: tuple[str, LayerView] | None) -> View | None:
    if shown is None:
        return None
    outcomes, layer = shown
    scatter = row_scatter(layer.own, "gini", layer.coefficients, ())
    return View(
        row_scatter_figure(scatter, (), theme()),
        f"{_seen(layer, explanations.scatter_seen(scatter))} {outcomes}",
        explanations.ROW_SPARSITY_FORMULA,
        f"Row sparsity against Gini for the {layer.rows:,} rows of {layer.name}",
        lambda: {
            "row": np.arange(layer.rows),
            "gini": layer.coefficients,
            "row_sparsity": layer.own.row_sparsity,
            "cosine": layer.cosines[-1].cosine,
        },
    )


def _seen(layer: LayerView, correlation: str) -> str:
    rate = layer.search.learning_rate if layer.search else None
    pruned = f"{layer.own.layer_sparsity:.0%} of them pruned"
    name = f"{layer.name}: {layer.rows:,} rows of {layer.columns:,} weights, {pruned}."
    if rate is None:
        return f"{name} No learning rate beat uniform here, so TRIM left every row at the target."
    sign = "rows of high cosine give" if rate > 0 else "rows of low cosine give"
    return f"{name} TRIM chose η = {rate:+g} ({sign}). {correlation}".replace("= -", "= −")


def _onwards(shown: object) -> None:
    """Show links to where a reader goes from here."""
    with st.container(horizontal=True, key="onwards"):
        for page, words in (
            ("layer", "Run TRIM on a layer yourself"),
            ("compare", "Compare TRIM with the optimum"),
            ("paper", "See the paper's figures"),
        ):
            st.page_link(
                f"views/{page}.py", label=words, icon=":material/arrow_forward:", query_params=kept()
            )


REAL = Step(
    "Real",
    "And in a real layer?",
    "A layer of a real language model, pruned by TRIM: one point per row, its Gini to the right, its sparsity upwards. "
    "*Spearman's rank correlation* says whether the two rise together: +1 always, 0 no relation, −1 one falls as the "
    "other rises.",
    _layer,
    _view,
    "Compare block 0 with one in the middle: do concentrated rows give, or the others? The page Layer runs TRIM anew "
    "for any layer and target.",
    Check(
        "In a layer TRIM chose η = −0.01. What do you expect of its rows with the lowest cosine?",
        (
            "They lose more weights than the target says",
            "They lose fewer weights than the target says",
            "They lose exactly as many as the target says",
        ),
        0,
        "With a negative rate the rows of low cosine give. It won because, in this layer, that cost the layer's output "
        "less than the other way round (step 6).",
    ),
    _onwards,
)
