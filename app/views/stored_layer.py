"""One layer as a run recorded it; needs neither the model nor a GPU."""

import math
import re

import streamlit as st

from app.services.results.picks import Pick
from app.services.runs.store import STORE
from app.services.server.faults import explain
from app.ui.common.guard import guarded
from app.ui.common.live_link import live_link
from app.ui.common.parts import OVERVIEW, choose_part
from app.ui.common.present import link
from app.ui.common.selection import choose_rows, rows_label
from app.ui.common.slots import add_to_compare
from app.ui.common.studio import set_caption_settings
from app.ui.common.text import literal
from app.ui.layer.linked import linked_charts
from app.ui.layer.more import MORE, ShownLayer, more_section
from app.ui.layer.parts import LIVE_PARTS, PARTS, open_part, target_bar
from diagnostics.format import change, percent
from trim.evaluation.diagnose_text import added_losses, format_text
from trim.methods.choices import SOLVERS
from trim.runs.folder import Run
from trim.runs.record import LayerRecord


def heading(run: Run, record: LayerRecord, label: str) -> None:
    """Show the names of the layer and the run."""
    st.title(literal(record.name))
    st.markdown(f"The layer as the run **{literal(run.name)}** recorded it. No model is loaded.")
    how = "solved with the mask" if record.allocation in SOLVERS else "refitted"
    refitted = (
        ""
        if record.error_left is None
        else f" · kept weights {how}, which leaves {percent(record.error_left)} of the output error of the mask alone"
    )
    st.caption(
        f"{literal(run.model.title)} · {record.rows:,} rows of {record.columns:,} weights · "
        f"{record.vectors:,} calibration vectors · score {literal(record.score)} · allocation {literal(label)}"
        + refitted
    )
    with guarded():
        if (facts := run.diagnoses.get("layers")) is not None and record.name in facts["layers"]:
            cost = added_losses(facts)[record.name]
            cost_text = (
                f"it costs {change(cost, 3)} nats per token"
                if math.isfinite(cost)
                else "the loss is not finite"
            )
            st.caption(literal(f"Pruned alone {cost_text}, on {format_text(facts['text'])}."))


def side_bar(run: Run, name: str) -> None:
    """Show the list of the run's layers; the choice changes the address."""

    def moved() -> None:
        st.query_params["layer"] = st.session_state["stored_layer"]

    if st.session_state.get("stored_layer") != name:
        st.session_state["stored_layer"] = name
    with st.sidebar:
        st.selectbox("Layer of this run", run.layers, key="stored_layer", on_change=moved)
        if run.kind == "model":
            link("model", "The whole run", "grid_on", run=run.id)
        add_to_compare(lambda: [Pick(run.id, name)], "add_to_compare")


def page() -> None:
    """Show the layer that the address names."""
    run_id = st.query_params.get("run")
    if run_id is None:
        st.title("Which layer of which run?")
        st.info("Open a run on the Model page and click a cell of its maps.", icon=":material/touch_app:")
        link("model", "To the Model page", "grid_on")
        return
    run = STORE.open(run_id)
    name = st.query_params.get("layer") or next(iter(run.layers), "")
    record = STORE.layer(run_id, name)
    view = STORE.view(run, name)
    side_bar(run, name)
    heading(run, record, view.own.label)
    set_caption_settings(
        run.model.title,
        f"layer {name}",
        f"{view.own.label} at {percent(view.target)} layer sparsity",
        f"run {run.name}",
    )
    file_name = re.sub(r"\W+", "-", f"{run.id}-{name}")
    messages = st.container()
    with target_bar(), st.container(horizontal=True, vertical_alignment="center", gap="small", key="parts"):
        part = choose_part([each for each in PARTS if each not in LIVE_PARTS])
        with st.popover(literal(rows_label()), type="tertiary", icon=":material/checklist:"):
            rows = choose_rows(view.rows, lambda: view, messages=messages)
        live_link(
            run.request,
            record.name,
            record.sparsity,
            score=record.score,
            rows=st.session_state.get("rows"),
        )
    linked_charts(view, view, rows, charts=part == OVERVIEW, file_name=file_name)
    with guarded(unexpected="This part cannot be shown"):
        if part == MORE:
            more_section(ShownLayer(view, view, rows, file_name, run=run))
        else:
            open_part(part, view, view, rows, file_name)


try:
    page()
except Exception as error:
    st.title("This layer cannot be shown")
    st.error(literal(explain(error)), icon=":material/error:")
    link("model", "To the Model page", "grid_on")
