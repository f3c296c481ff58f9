"""The first page: one layer of one model, TRIM re-run by a control."""

import re
from pathlib import Path

import streamlit as st
import torch
from torch import Tensor

import trim
from app.services.layer.study import ModelKey, Outcome, SensitivityKey, Study, StudyKey
from app.services.server.access import SEMINAR
from app.ui.common.address import tell_refused
from app.ui.common.cards import choose_picture_format, fact
from app.ui.common.choose import TEXT_WORDS, choose_layer, choose_model, choose_text
from app.ui.common.search_options import (
    SearchOptions,
    choose_search_options,
    choose_shown,
    default_options,
    fisher_wanted,
    settings,
)
from app.ui.common.selection import choose_rows
from app.ui.common.seminar import open_study
from app.ui.common.text import plain
from app.ui.common.waiting import NothingToShow, finished, laboratory, meanwhile
from app.ui.layer.cards import concentration_card, learning_rate_card, row_sparsity_card, similarity_card
from app.ui.layer.gap import captured_words, gap_section
from app.ui.layer.inspector import mask_pictures, row_inspector, row_table
from app.ui.layer.keep import keep_controls
from trim.names import bytes_in_words

DEFAULT_TARGET_PERCENT = 70


@st.fragment
def explore(study: Study, options: SearchOptions, sensitivity: Tensor | None) -> None:
    """The target slider and the views; only this part runs again when a control in it is let go."""
    percent = st.slider(
        "Layer sparsity target: share of this layer's weights to prune",
        1,
        99,
        DEFAULT_TARGET_PERCENT,
        format="%d%%",
        key="target",
        bind="query-params",
    )
    try:
        outcome = study.outcome(settings(percent / 100, options), sensitivity)
    except trim.TrimError as error:
        st.error(str(error), icon=":material/error:")
        latest = study.latest
        if latest is None:
            return
        outcome = latest
        st.caption(
            f"Below: the last result, for a layer target of {outcome.result.settings.target_sparsity:.0%}."
        )
    layer_name = re.sub(r"\W+", "-", f"{study.origin.model.title}-{study.key.layer}")
    file_name = f"{layer_name}-{percent}"  # a chart whose file has another name is redrawn
    summary(study, outcome)
    whole, outcome = outcome, outcome.showing(choose_shown())
    rows = choose_rows(study, outcome, whole)
    above, below = st.columns(2), st.columns(2)
    # The chart that does not depend on the target comes last: the others need not wait for it.
    with above[1]:
        similarity_card(study, outcome, rows, file_name)
    with below[0]:
        row_sparsity_card(study, outcome, rows, file_name)
    with below[1]:
        learning_rate_card(outcome, file_name)
    with above[0]:
        concentration_card(study, outcome, rows, layer_name)
    keep_controls(study, outcome)
    st.subheader("What TRIM leaves to gain")
    st.markdown(captured_words(study.gap(whole), whole.optimum.row_weights))
    if st.toggle("Show where, and at other targets", key="gap", bind="query-params"):
        gap_section(study, whole, rows, layer_name, file_name)
    st.subheader("Selected rows")
    row_table(study, whole, rows)
    if rows:
        row_inspector(study, outcome, rows, file_name)
    if st.toggle("Show which weights are pruned", key="masks", bind="query-params"):
        mask_pictures(study, outcome, rows, file_name)


def summary(study: Study, outcome: Outcome) -> None:
    """Layer quality of uniform, TRIM and the optimum, at exact counts, and what the search did."""
    result, best = outcome.result, outcome.optimum
    gain = result.realised_quality - result.uniform_realised_quality
    best_gain = best.quality - result.uniform_realised_quality
    minimised = (
        "the layer's error"
        if best.sensitivity is None
        else "an estimate of the model's loss (Fisher row weights)"
    )
    pruned, weights = int(result.counts.sum()), study.rows * study.columns
    rate = result.learning_rate
    columns = st.columns([7, 7, 7, 5, 5.5])
    fact(
        columns[0],
        "Layer quality, uniform",
        f"{result.uniform_realised_quality:.5g}",
        result.settings.layer_quality,
        help="At exact counts: every row loses the same share. Larger is better.",
    )
    columns[1].metric(
        "Layer quality, TRIM",
        f"{result.realised_quality:.5g}",
        f"{gain:+.2g} vs uniform",
        border=True,
        height="stretch",
        help="At the exact counts that masks and files use. The chart of learning rates shows the publication's "
        "own reading, at rounded-down counts, which are a little too sparse on average.",
    )
    columns[2].metric(
        "Layer quality, optimal",
        f"{best.quality:.5g}",
        f"{best_gain:+.2g} vs uniform",
        border=True,
        height="stretch",
        help=f"The counts that minimise {minimised} for the same number of pruned weights; not this quality, though "
        f"mostly the two agree. Its rows may lose up to {best.cap:.0%}, TRIM's up to "
        f"{result.settings.max_row_sparsity:.0%}.",
    )
    fact(
        columns[3],
        "Learning rate",
        "none" if rate is None else f"{rate:+g}",
        f"{len(result.tried)} tried" + (": stays uniform" if rate is None else ""),
        help="Positive: rows that keep their quality give more weights. Negative: rows that lose it do.",
    )
    fact(
        columns[4],
        "Layer sparsity",
        f"{pruned / weights:.2%}",
        f"{pruned:,} pruned",
        help=f"{pruned:,} of the layer's {weights:,} weights, under each of the three.",
    )
    if len(study.dead_rows):
        st.caption(
            f":material/warning: {len(study.dead_rows):,} of {study.rows:,} rows have no output on this text "
            f"(for example row {study.dead_rows[0]}); their cosine is 0 at any sparsity."
        )


def load(key: ModelKey) -> trim.Model:
    """The model; before a large download the reader is asked."""
    laboratory_ = laboratory()
    if not laboratory_.is_loaded(key):
        description = finished(laboratory_.description(key.source), key.source)
        if description.download_bytes:
            with st.container(border=True):
                st.markdown(f"**{plain(description.title)}**")
                st.markdown(
                    f"{plain(description.architecture)}, {description.parameters / 1e6:,.0f} million parameters in "
                    f"{description.blocks} blocks. It is not on this machine yet: "
                    f"**{bytes_in_words(description.download_bytes)}** would be downloaded from the Hub."
                )
                if not st.button("Download and load", type="primary", icon=":material/download:"):
                    raise NothingToShow
    return finished(laboratory_.model(key), key)


def chosen_study() -> Study:
    """The layer that the side bar asks for.

    Raises:
        NothingToShow: it cannot be had; the page says why.
    """
    model_key = choose_model(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
    sample = choose_text()
    model = load(model_key)
    layer, score = choose_layer(model)
    key = StudyKey(model_key, sample, layer, score)
    return finished(laboratory().study(key, model), key)


def sensitivity_of(study: Study) -> Tensor | None:
    """The sensitivity (D,) of the layer's rows; None while it is being measured, and where it cannot be."""
    key = SensitivityKey(study.key.model, study.key.sample)
    try:
        job = laboratory().sensitivity(key, load(key.model))
    except NothingToShow:
        return None
    measured = meanwhile(
        job, key, "Measuring the rows' sensitivities; until then the optimum weighs all rows alike"
    )
    return None if measured is None else measured[study.key.layer]


def heading(study: Study) -> None:
    """Which layer this is, of which model, and what it received."""
    text = TEXT_WORDS.get(study.key.sample.corpus) or Path(study.key.sample.corpus).name
    st.title(plain(study.key.layer))
    st.markdown(
        "TRIM gives every row (output dimension) of this layer its own sparsity, so that the layer as a whole loses "
        "the target share of its weights. Move the target, and it searches again."
    )
    st.caption(
        f"{plain(study.origin.model.title)} · {study.rows:,} rows (output dimensions) of {study.columns:,} weights · "
        f"{study.curves.vectors:,} calibration vectors from {plain(text)} · computed on "
        f"{study.origin.compute.device} in {study.origin.compute.dtype}"
    )


try:
    study = chosen_study() if SEMINAR.may() else open_study()
    st.session_state["last_study"] = study.key
except NothingToShow:
    last = laboratory().finished_study(st.session_state.get("last_study"))
    if last is None:
        st.stop()
    study = last
    st.caption("Below: the last layer that could be shown.")
options = choose_search_options() if SEMINAR.may() else default_options()
fisher = SEMINAR.may() and fisher_wanted()
with st.sidebar:
    choose_picture_format()
refused = st.container()
heading(study)
explore(study, options, sensitivity_of(study) if fisher else None)
with refused:
    tell_refused()
