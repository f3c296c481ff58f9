"""The first page: one layer of one model, TRIM re-run by a control."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

import trim
from app.services.layer.keys import DEVICES, FIRST_TARGET_PERCENT, ModelKey, SensitivityKey, StudyKey
from app.services.layer.shipped import Gains, ShippedLayer, shipped_layer
from app.services.layer.study import Outcome, Study
from app.services.server.access import SEMINAR
from app.ui.common.address import show_refused
from app.ui.common.choose import choose_layer, choose_model, choose_text
from app.ui.common.guard import guarded
from app.ui.common.parts import ALL_LAYERS, OVERVIEW, choose_part, controls_in
from app.ui.common.search_options import (
    SearchOptions,
    choose_search_options,
    choose_shown,
    default_options,
    fisher_wanted,
    settings,
)
from app.ui.common.selection import choose_rows, rows_label
from app.ui.common.seminar import open_study
from app.ui.common.slots import add_to_compare, live_pick
from app.ui.common.studio import set_caption_settings
from app.ui.common.text import literal
from app.ui.common.waiting import (
    NothingToShow,
    laboratory,
    result_or_progress,
    result_or_stop,
    study_in_memory,
)
from app.ui.layer.keep import keep_controls
from app.ui.layer.linked import linked_charts
from app.ui.layer.live import is_live, show_live_status
from app.ui.layer.more import MORE, ShownLayer, more_section
from app.ui.layer.parts import PARTS, open_gap, open_map, open_part, target_bar
from app.ui.layer.pin import Pin, Pinned, pin_controls, pinned_layer, reset_controls
from diagnostics.format import percent
from trim.names import format_bytes

if TYPE_CHECKING:
    import numpy as np
    from streamlit.delta_generator import DeltaGenerator

CONTROLS = "controls"  # the fragment that holds the controls of the charts


@st.fragment(key=CONTROLS)
def explore(
    study: Study, options: SearchOptions, sensitivity: np.ndarray | None, pinned: Pinned | None
) -> None:
    """Show the controls of the charts, and the charts."""
    controls_in(CONTROLS)
    left, middle, right = target_bar().columns([3.5, 2.35, 4.15], vertical_alignment="bottom")
    with middle:
        methods = choose_shown()
    messages = st.container()

    def current_outcome() -> Outcome:
        return study.outcome(st.session_state["last_explored"][1], sensitivity)

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="parts"):
        part = choose_part(PARTS)
        with st.popover(rows_label(), type="tertiary", icon=":material/checklist:"):
            rows = choose_rows(
                study.rows,
                lambda: current_outcome().view.showing(methods),
                lambda: current_outcome().view,
                messages,
            )
    target_and_charts(left, study, options, sensitivity, pinned, methods, part, rows)
    if last_explored() != study.key:
        return
    outcome = current_outcome()
    shown = outcome.view.showing(methods)
    with right, st.container(horizontal=True, horizontal_alignment="right", gap="xsmall", key="actions"):
        with st.popover("Pin", type="tertiary", icon=":material/keep:"):
            pin_controls(Pin(study.key, st.session_state["target"], options), pinned)
            reset_controls()
        with st.popover("Keep", type="tertiary", icon=":material/bookmark_add:"):
            keep_controls(study, outcome, shown)
        add_to_compare(
            lambda: [
                live_pick(*side, each.method)
                for side in [(study, current_outcome())]
                + ([] if pinned is None else [(pinned.study, pinned.outcome())])
                for each in shown.learned
            ],
            "add_to_compare",
            " and what is pinned" if pinned is not None else "",
        )


@st.fragment
def target_and_charts(
    bar: DeltaGenerator,
    study: Study,
    options: SearchOptions,
    sensitivity: np.ndarray | None,
    pinned: Pinned | None,
    methods: frozenset[str],
    part: str,
    rows: list[int],
) -> None:
    """Show the target slider and the charts; only this fragment runs again when the slider is released."""
    target = bar.slider(
        "Layer sparsity target: share of weights pruned",
        1,
        99,
        FIRST_TARGET_PERCENT,
        format="%d%%",
        key="target",
        bind="query-params",
    )
    messages = st.container()
    try:
        outcome = study.outcome(settings(target / 100, options), sensitivity)
    except trim.TrimError as error:
        messages.error(literal(error), icon=":material/error:")
        latest = study.latest
        if latest is None:
            return
        outcome = latest
        messages.caption(
            f"Below: the last result, for a layer target of {percent(outcome.result.settings.target_sparsity, 0)}."
        )
    st.session_state["last_explored"] = study.key, outcome.result.settings
    whole = outcome.view
    shown = whole.showing(methods)
    layer_name = re.sub(r"\W+", "-", f"{study.origin.model.title}-{study.key.layer}")
    file_name = f"{layer_name}-{target}"
    set_caption_settings(
        study.origin.model.title,
        f"layer {study.key.layer}",
        f"score {study.key.score}",
        f"{target}% layer sparsity",
        f"{study.vectors:,} vectors from {study.key.sample.corpus}",
    )
    linked_charts(
        shown,
        whole,
        rows,
        pinned=None if pinned is None else pinned.outcome().view.showing(methods),
        pinned_label="" if pinned is None else pinned.pin.differences(Pin(study.key, target, options)),
        charts=part == OVERVIEW,
        file_name=file_name,
        gains=_gains(study),
        live=True,
    )
    with guarded(unexpected="This part cannot be shown"):
        if part == "Gap":
            open_gap(study, outcome, rows, layer_name, file_name)
        elif part == ALL_LAYERS:
            open_map(study)
        elif part == MORE:
            more_section(ShownLayer(shown, whole, rows, file_name, live=(study, outcome)))
        else:
            open_part(part, shown, whole, rows, file_name)


def last_explored() -> StudyKey | None:
    """Return the layer that this session showed last; None: none yet."""
    key: StudyKey | None = st.session_state.get("last_explored", (None, None))[0]
    return key


def load(key: ModelKey) -> trim.Model:
    """Load the model; ask the reader before a large download."""
    laboratory_ = laboratory()
    result_or_stop(laboratory_.devices(), DEVICES)
    if not laboratory_.started(key):
        description = result_or_stop(laboratory_.description(key.source), key.source)
        if description.download_bytes:
            with st.container(border=True):
                st.markdown(f"**{literal(description.title)}**")
                st.markdown(
                    f"{literal(description.architecture)}, {description.parameters / 1e6:,.0f} million parameters in "
                    f"{description.blocks} blocks. It is not on this machine yet: "
                    f"**{format_bytes(description.download_bytes)}** would be downloaded from the Hub."
                )
                st.caption(literal(description.layers_text))
                if not st.button("Download and load", type="primary", icon=":material/download:"):
                    raise NothingToShow
    return result_or_stop(laboratory_.model(key), key)


def chosen_study() -> Study:
    """Return the study of the layer in the side bar: the live one, or until it is ready the shipped one.

    Raises:
        NothingToShow: the study cannot be prepared; the page says why.
    """
    laboratory_, shipped = laboratory(), shipped_layer()
    model_key = choose_model(laboratory_.cached_devices())
    sample = choose_text()
    if isinstance(shipped, ShippedLayer) and model_key.source == "demo":
        names = shipped.names
    else:
        names = tuple(load(model_key).layers)
    if (wanted := st.session_state.pop("go_to_layer", None)) in names:
        block, st.session_state["layer"] = wanted.split(".", 1)
        st.session_state["block"] = int(block)
    layer, score = choose_layer(names, model_key.source)
    key = StudyKey(model_key, sample, layer, score)
    return study_in_memory(key) or result_or_stop(laboratory_.study(key, load(model_key)), key)


def sensitivity_of(study: Study) -> np.ndarray | None:
    """Return the sensitivity (D,) of the layer's rows; None while it is being measured, or if that failed."""
    if not is_live(study):
        st.caption(
            "The rows' sensitivities are measured with the live model; until then all rows have the same weight."
        )
        return None
    key = SensitivityKey(study.key.model, study.key.sample)
    try:
        job = laboratory().sensitivity(key, load(key.model))
    except NothingToShow:
        return None
    measured = result_or_progress(
        job, key, "Measuring the rows' sensitivities; until then all rows have the same weight"
    )
    return None if measured is None else measured[study.key.layer].numpy(force=True)


def heading(study: Study) -> None:
    """Show which layer this is, and whether it is live."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="heading"):
        st.title(literal(study.key.layer), anchor=False, width="content")
        show_live_status(study)


def _gains(study: Study) -> Gains | None:
    """Return the gains in all layers, which were measured for the default model and text only."""
    shipped = shipped_layer()
    if isinstance(shipped, ShippedLayer) and study.key == dataclasses.replace(
        shipped.key, layer=study.key.layer
    ):
        return shipped.gains
    return None


def about(study: Study) -> None:
    """Describe the layer's model and calibration text."""
    st.caption(
        f"{literal(study.origin.model.title)} · {study.rows:,} rows of {study.columns:,} weights · "
        f"{study.vectors:,} calibration vectors ({literal(Path(study.key.sample.corpus).name)})"
    )


messages = st.container()  # messages come and go; the elements below keep their places and are not redrawn
with messages:
    try:
        study = chosen_study() if SEMINAR.may() else open_study()
    except NothingToShow:
        last = laboratory().finished_study(last_explored())
        if last is None:
            st.stop()
        study = last
        st.caption("Below: the last layer that could be shown.")
options = choose_search_options() if SEMINAR.may() else default_options()
fisher = SEMINAR.may() and fisher_wanted()
heading(study)
with st.container():  # also keeps the places of the elements below
    pinned = pinned_layer(study)
    sensitivity = sensitivity_of(study) if fisher else None
explore(study, options, sensitivity, pinned)
about(study)
with messages:
    show_refused()
