"""A map of the model, coloured by a stored run, to pick another layer from."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app.services.layer.study import Study
from app.services.results.tables import model_map
from app.services.runs.store import STORE, StoredRun
from app.ui.common.cards import View, card, theme
from app.ui.common.explanations import MAP_FORMULAS
from app.ui.common.maps import map_finding
from app.ui.common.parts import go_to_layer
from app.ui.common.selection import chosen_data
from app.ui.common.text import distinct
from diagnostics.figures.model_map import model_map_figure
from diagnostics.model_map import MapQuantity, ModelMap

QUANTITIES: dict[str, MapQuantity] = {
    "Gain": "quality_gain",
    "Median Gini": "median_gini",
    "Layer sparsity": "layer_sparsity",
}
KEY = "layer_map"
_WHY_OTHER = """
On the Layer page a layer receives what the dense model sends, in the run what the pruned blocks before it send: numbers
differ a little.
"""


def layer_map(study: Study) -> None:
    """Show the map; a click on a cell opens that layer here, live."""
    runs = {entry.id: entry for entry in STORE.runs() if _is_of(entry, study)}
    if not runs:
        st.info(
            "No stored run is of this model. Prune it on the Model page, and its map is here.",
            icon=":material/grid_on:",
        )
        return
    names = distinct({key: entry.opened().name for key, entry in runs.items()})
    chosen = st.selectbox("Run", list(runs), format_func=names.__getitem__, key="map_run")
    shown = model_map(runs[chosen].opened())
    card(
        KEY,
        {label: partial(_view, shown, quantity) for label, quantity in QUANTITIES.items()},
        file_name=f"{chosen}-map",
        on_select=_clicked,
        selectable=frozenset(QUANTITIES),
        clickable=True,
        shared=shown,
        bind="query-params",
        brief=True,
    )


def _is_of(entry: StoredRun, study: Study) -> bool:
    run = entry.run
    return (
        run is not None
        and run.kind == "model"
        and bool(run.blocks)
        and run.model.title == study.origin.model.title
    )


def _view(shown: ModelMap, quantity: MapQuantity) -> View:
    return View(
        model_map_figure(shown, quantity, theme()),
        f"{map_finding(shown, quantity)} The numbers are the run's: those of a live layer differ a little. Click a "
        "cell to open that layer.",
        MAP_FORMULAS[quantity] + _WHY_OTHER,
        "Heat map, block by layer type",
        shown.columns,
    )


def _clicked() -> None:
    if names := chosen_data(st.session_state[KEY]["selection"]["points"]):
        go_to_layer(str(names[0]))
