"""The costs of a run's layers, each pruned alone."""

from dataclasses import replace

import numpy as np
import streamlit as st

from app.ui.common.cards import View, card, theme
from app.ui.common.diagnosis import diagnosis, measured_on, text_options
from app.ui.common.explanations import MAP_FORMULAS
from app.ui.model.cards import map_view, selectable_card
from diagnostics.figures.diagnoses import cost_scatter_figure
from diagnostics.format import change
from diagnostics.model_map import ModelMap
from diagnostics.numeric import rank_correlation
from trim.evaluation.diagnose_text import added_losses, layers_finding
from trim.runs.diagnosis_shapes import LayerCostDiagnosis
from trim.runs.folder import Run

COST = (
    "The text goes through the dense model once; then each layer alone is pruned, and only its block and those after "
    "it are run again. What is measured stays, also if you cancel."
)
# The quantities that a layer's cost is drawn against, by their labels in the control.
AGAINST = {
    "Predicted": ("loss predicted by sensitivities (nats per token)", "loss_foreseen"),
    "Gini": ("median Gini of the layer's rows", "median_gini"),
    "Gain": ("quality gain over uniform", "quality_gain"),
    "Sparsity": ("layer sparsity (share of weights pruned)", "layer_sparsity"),
}


def layer_costs_part(run: Run, shown: ModelMap, file_name: str) -> None:
    """Show the layer costs, or offer to measure them."""

    def show(measured: LayerCostDiagnosis) -> None:
        with_costs = costed(shown, measured)
        measured_on(measured["text"])
        left, right = st.columns(2)
        with left:
            quantities = {"Cost": "loss_added", "Predicted": "loss_foreseen"}
            variants = {
                label: lambda quantity=quantity: map_view(with_costs, quantity)
                for label, quantity in quantities.items()
            }
            selectable_card("map_cost", variants, file_name, with_costs)
        with right:
            _scatter_card(with_costs, measured, file_name)

    def options() -> list[str]:
        chosen = st.multiselect(
            "Layers",
            run.layers,
            key="cost_layers",
            placeholder="All that the run pruned",
            help="A few are measured sooner. Those measured before on the same text stay.",
        )
        return [*text_options(run, "layers"), "--layers", *(chosen or ("*",))]

    diagnosis(run, "layers", "What does each layer cost, pruned alone?", COST, show, options)


def costed(shown: ModelMap, measured: LayerCostDiagnosis) -> ModelMap:
    """Return a map with the costs of its layers."""
    costs = added_losses(measured)
    layers = tuple(
        replace(
            each,
            loss_added=costs[each.name],
            loss_foreseen=float(measured["layers"][each.name]["predicted"]),
        )
        if each.name in costs
        else each
        for each in shown.layers
    )
    return replace(shown, layers=layers)


def _scatter_card(shown: ModelMap, measured: LayerCostDiagnosis, file_name: str) -> None:
    layers = shown.costed
    if not layers:
        st.info("No layer has a finite cost on this text.", icon=":material/info:")
        return
    costs = np.array([each.loss_added for each in layers])
    errors = np.array([float(measured["layers"][each.name]["standard_error"]) for each in layers])

    def view(axis: str, field: str) -> View:
        values = np.array([getattr(each, field) for each in layers], dtype=float)
        found = rank_correlation(values, costs)
        finding = layers_finding(measured)
        if found is not None:
            finding += f" Cost and {axis.partition(' (')[0]}: Spearman {change(found.coefficient)}."
        return View(
            cost_scatter_figure([each.name for each in layers], values, costs, errors, axis, theme()),
            finding,
            MAP_FORMULAS["loss_added"],
            "Scatter of layers' costs",
            lambda: {
                "layer": np.array([each.name for each in layers], dtype=str),
                "loss_added": costs,
                "standard_error": errors,
                field: values,
            },
        )

    variants = {label: lambda quantity=quantity: view(*quantity) for label, quantity in AGAINST.items()}
    card("layer_cost", variants, file_name=file_name)
