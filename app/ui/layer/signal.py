"""Is it signal: learned row sparsities with error bars, over draws of what the layer is calibrated on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.services.layer.keys import SignalKey
from app.ui.common.cards import View, card, theme
from app.ui.common.seminar import presenter_only
from app.ui.common.text import plain
from app.ui.common.waiting import NothingToShow, finished, laboratory
from app.ui.layer.live import is_live
from diagnostics.figures.signal import rate_draws_figure, row_signal_figure
from diagnostics.format import percent, rate_label

if TYPE_CHECKING:
    import trim
    from app.services.layer.study import Outcome, Study

KINDS = ("Input vectors", "Windows of the text")
DRAWS = 12
FORMULA = r"""
$$
\frac{V_{\text{rows}}}{V_{\text{rows}} + V_{\text{draws}}}, \qquad
V_{\text{draws}} = \frac1D \sum_i \operatorname{var}_k s_{ik}, \qquad
V_{\text{rows}} = \operatorname{var}_i \bar s_i - \frac{V_{\text{draws}}}{K}
$$

$s_{ik}$ is the sparsity that TRIM learns for row $i$ in draw $k$ of $K$: from the layer's input vectors drawn again
with replacement (a bootstrap; the score stays), or from other windows of the text (then score, Gini and vectors
change). A row is meant to differ where its mean is more than twice its standard deviation away from the layer's
sparsity.
"""


def signal_section(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    """Ask what is drawn again, and show how certain the layer's row sparsities are."""
    if not is_live(study):
        st.info("This is measured with the live model, which is being loaded.", icon=":material/bolt:")
        return
    if not presenter_only("Measuring uncertainty"):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control("Drawn again", KINDS, default=KINDS[0], required=True, key="signal_kind")
        draws = st.number_input("Draws", 2, 100, DRAWS, key="signal_draws", width=140)
        vectors = study.vectors
        if kind == KINDS[0]:
            vectors = st.number_input(
                "Vectors in each",
                1,
                8 * study.vectors,
                study.vectors,
                key="signal_vectors",
                width=160,
                help="As many as the layer received: how certain it is now. Fewer or more: how that would change.",
            )
        asked = st.button("Measure", type="primary", icon=":material/speed:", key="measure_signal")
    key = SignalKey(study.key, outcome.result.settings, kind == KINDS[1], draws, vectors)
    laboratory_ = laboratory()
    if not (asked or laboratory_.finished_signal(key)):
        st.caption(
            "The layer is searched once for each draw. Other windows also take a forward pass of the model each."
        )
        return
    try:
        model = finished(laboratory_.model(study.key.model), study.key.model)
        found = finished(laboratory_.signal(key, model), key, "Learning from each draw")
    except NothingToShow:
        return
    signal_card(found, rows, file_name)


def signal_card(found: trim.RowSignal, rows: list[int], file_name: str) -> None:
    """Draw sparsities, Gini and rates over the draws."""
    seen = signal_seen(found)

    def view(figure: str) -> View:
        if figure == "Rates":
            drawn = rate_draws_figure(found.rates, theme())
        elif figure == "Gini":
            drawn = row_signal_figure(found.gini, "Gini of the row's scores", rows, theme(), ".3f")
        else:
            drawn = row_signal_figure(found.sparsity, "row sparsity", rows, theme())
        return View(drawn, plain(seen), FORMULA, f"{figure} over draws. {seen}", found.columns)

    variants = {name: lambda name=name: view(name) for name in ("Row sparsity", "Gini", "Rates")}
    card("signal", variants, file_name=file_name)


def signal_seen(found: trim.RowSignal) -> str:
    """Say in a few sentences how much of the spread between rows is signal."""
    rates = list(found.rates)
    most = max(set(rates), key=rates.count)
    rate = "no rate" if most is None else f"rate {rate_label(most)}"
    chosen = f"{rate} was chosen in {rates.count(most)} of {len(rates)} draws."
    share = found.signal_share
    if np.isnan(share):
        return f"Row sparsities are the same in every row and draw; {chosen}"
    return (
        f"{percent(share, 0)} of the variance of row sparsities is between rows, the rest is their "
        f"own uncertainty. A row's "
        f"sparsity is certain to ± {percent(np.median(found.uncertainty), 2)} (median); "
        f"{percent(found.meant_share, 0)} of the rows "
        f"differ from the layer's by more than twice their uncertainty; {chosen}"
    )
