"""The frame of a layer's page: the bar that stays at the top, and the open part below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.services.runs.layer import LayerView
from app.ui.common.parts import ALL_LAYERS, OVERVIEW

if TYPE_CHECKING:
    from app.services.layer.study import Outcome, Study

LIVE_PARTS = ("Gap", ALL_LAYERS)  # parts that a stored layer does not have
PARTS = (OVERVIEW, ALL_LAYERS, "Gini", "Cosine", "Sparsity", "Search", "Rows", "Gap", "Masks", "More")

# Target, numbers and the four charts fit on a screen of 1280 × 720; the target stays visible during scrolling.
_FRAME = """
<style>
@media (min-width: 900px) {
.st-key-heading { flex-wrap: nowrap; max-width: calc(100% - 3rem); }
.st-key-heading > :last-child { flex: 1 1 0; min-width: 0; }
.st-key-seen { flex-wrap: nowrap; height: 1.75rem; }
.st-key-seen p { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.st-key-coming { flex-wrap: nowrap; padding-right: 7rem; }
.st-key-seen > :first-child, .st-key-coming > :first-child { min-width: 0; flex: 1 1 0; }
.st-key-seen button { min-height: 1.5rem; padding: 0; }
[data-testid=stMainBlockContainer] [data-testid=stVerticalBlock] { gap: 0.45rem; }
}
:has(> .st-key-target-bar) { position: sticky; top: 0; z-index: 100; }
[data-testid=stApp] :has(.st-key-target-bar), .st-key-target-bar { background-color: inherit; }
.st-key-target-bar { padding-top: 0.2rem; }
/* On a narrow page, below Streamlit's header, and there the slider alone: the other controls are above it. */
@media (max-width: 899px) {
.st-key-heading > :last-child { flex: 1 1 100%; }
:has(> .st-key-target-bar) { top: 3.75rem; }
}
@media (min-width: 641px) and (max-width: 899px) {
:has(> .st-key-target-bar) { top: 1rem; }
.st-key-target-bar > [data-testid=stHorizontalBlock], .st-key-target-bar > * > [data-testid=stHorizontalBlock] {
  flex-wrap: wrap-reverse; row-gap: 0; }
.st-key-target-bar > * > [data-testid=stHorizontalBlock] > [data-testid=stColumn] { flex: 1 1 13rem; min-width: 13rem; }
.st-key-target-bar > * > [data-testid=stHorizontalBlock] > [data-testid=stColumn]:last-child { flex-basis: 100%; }
}
@media (max-width: 640px) {
:has(> .st-key-target-bar) { top: -5rem; }
.st-key-target-bar > [data-testid=stHorizontalBlock], .st-key-target-bar > * > [data-testid=stHorizontalBlock] {
  flex-direction: column-reverse; }
}
</style>
"""


def target_bar() -> DeltaGenerator:
    """Return the container that stays at the top while the page scrolls."""
    st.html(_FRAME)
    return st.container(key="target-bar")


def open_part(part: str, view: LayerView, whole: LayerView, rows: list[int], file_name: str) -> None:
    """Draw the open part of the page; the overview is drawn by the linked charts.

    Args:
        part: the part's name.
        view: the layer with the shown allocations.
        whole: the layer with all allocations.
        rows: the selected rows.
        file_name: name of the downloads, without suffix.
    """
    if part == OVERVIEW:
        return
    # Plotly is imported when the first of its charts is needed.
    from app.ui.layer import cards, inspector

    if part == "Rows":
        inspector.row_table(whole, rows)
        if rows:
            inspector.row_inspector(view, rows, file_name)
    elif part == "Masks":
        inspector.mask_section(view, rows, file_name)
    else:
        charts = {
            "Gini": cards.concentration_card,
            "Cosine": cards.similarity_card,
            "Sparsity": cards.row_sparsity_card,
            "Search": cards.search_card,
        }
        charts[part](view, rows, file_name)


def open_map(study: Study) -> None:
    """Draw the map of the model, to pick another layer."""
    from app.ui.layer.map import layer_map

    layer_map(study)


def open_gap(study: Study, outcome: Outcome, rows: list[int], layer_name: str, file_name: str) -> None:
    """Draw the part on the gap between TRIM and the optimum."""
    from app.ui.layer.gap import captured_text, gap_section

    st.markdown(captured_text(study.gap(outcome), outcome.optimum.row_weights))
    gap_section(study, outcome, rows, layer_name, file_name)
