"""The control that keeps the layer on the page as a run."""

from typing import TYPE_CHECKING

import streamlit as st

from app.services.results.picks import Pick
from app.services.runs.layer import LayerView
from app.ui.common.guard import errors_shown
from app.ui.common.present import link
from app.ui.common.segments import segments
from app.ui.common.seminar import presenter_only
from app.ui.common.slots import compare_link
from app.ui.common.text import literal
from app.ui.common.waiting import laboratory

if TYPE_CHECKING:  # it computes, and imports torch
    from app.services.layer.study import Outcome, Study


def keep_controls(study: "Study", outcome: "Outcome", shown: LayerView) -> None:
    """Keep this layer, its settings and a shown allocation under a name."""
    if not presenter_only("Keeping this layer as a run"):
        return
    labels = {each.label: each.method for each in shown.learned}
    label = next(iter(labels))
    if len(labels) > 1:
        label = segments("Allocation to keep", labels, "allocation_to_keep", labelled=True)
    name = st.text_input("Name", max_chars=80, placeholder="layer, target and method").strip()
    if st.button("Keep as a run", type="primary"):
        from app.services.layer.keep import keep

        with errors_shown():
            signal, layer = laboratory().measured_signal(study.key, outcome.result.settings), study.key.layer
            name = name or f"{layer} at {shown.target:.0%}, {label}"
            folder = keep(study, outcome, labels[label], name, signal)
            st.success(f"Kept in {literal(folder)}", icon=":material/check:")
            link("stored_layer", "Open what was kept", "layers", run=folder.name, layer=layer)
            compare_link([Pick(folder.name, layer)])
