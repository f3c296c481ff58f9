"""The first page: one layer of one model, TRIM re-run by a control."""

import re

import streamlit as st

import trim
from app.services.studies import Outcome, SampleKey, Study, StudyKey
from app.ui.inspector import mask_pictures, row_inspector, row_table
from app.ui.laboratory import finished, laboratory
from app.ui.layer_views import concentration_card, learning_rate_card, row_sparsity_card, similarity_card
from app.ui.search_options import choose_search_options, settings
from app.ui.selection import choose_rows

DEFAULT_TARGET_PERCENT = 70


def default_layer(model: trim.Model) -> tuple[int, str]:
    """The middle block's gate projection, or its last layer where the architecture has no gate."""
    block = len(model.blocks) // 2
    paths = layer_paths(model, block)
    return block, next((path for path in paths if path.endswith("gate_proj")), paths[-1])


def layer_paths(model: trim.Model, block: int) -> list[str]:
    """The layers of a block, without the block's index."""
    return [name.split(".", 1)[1] for name in model.layers if name.startswith(f"{block}.")]


def choose_layer(model: trim.Model) -> tuple[str, str]:
    """The side bar's controls; the chosen layer and score."""
    block, path = default_layer(model)
    with st.sidebar:
        block = st.slider("Block", 0, len(model.blocks) - 1, block, key="block", bind="query-params")
        paths = layer_paths(model, block)
        path = st.selectbox("Layer", paths, paths.index(path), key="layer", bind="query-params")
        score = st.segmented_control(
            "Score",
            trim.SCORES,
            default="wanda",
            required=True,
            key="score",
            format_func=str.capitalize,
            bind="query-params",
            help="How important a weight is. Wanda: its size times the norm of the input feature it reads. "
            "Magnitude: its size alone.",
        )
    return f"{block}.{path}", score


@st.fragment
def explore(study: Study, options: dict[str, object]) -> None:
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
        outcome = study.outcome(settings(percent / 100, options))
    except trim.TrimError as error:
        st.error(str(error), icon=":material/error:")
        outcome = study.latest
        if outcome is None:
            return
        st.caption(
            f"Below: the last result, for a layer target of {outcome.result.settings.target_sparsity:.0%}."
        )
    file_name = re.sub(r"\W+", "-", f"{study.key.sample.model}-{study.key.layer}-{percent}")
    summary(study, outcome)
    rows = choose_rows(study, outcome)
    left, right = st.columns(2)
    with left:
        concentration_card(study, rows, file_name)
    with right:
        similarity_card(study, outcome, rows, file_name)
    left, right = st.columns(2)
    with left:
        row_sparsity_card(study, outcome, rows, file_name)
    with right:
        learning_rate_card(outcome, file_name)
    st.subheader("Selected rows")
    row_table(study, outcome, rows)
    if rows:
        row_inspector(study, outcome, rows, file_name)
    if st.toggle("Show which weights are pruned", key="masks", bind="query-params"):
        mask_pictures(study, outcome, rows, file_name)


def summary(study: Study, outcome: Outcome) -> None:
    """Layer quality uniform against TRIM, at exact counts, and what the search did."""
    result = outcome.result
    gain = result.realised_quality - result.uniform_realised_quality
    pruned, weights = int(result.counts.sum()), study.rows * study.columns
    rate = result.learning_rate
    columns = st.columns(4)
    columns[0].metric(
        "Layer quality, uniform",
        f"{result.uniform_realised_quality:.5g}",
        result.settings.layer_quality,
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="At exact counts: every row loses the same share. Larger is better.",
    )
    columns[1].metric(
        "Layer quality, TRIM",
        f"{result.realised_quality:.5g}",
        f"{gain:+.2g} against uniform",
        border=True,
        height="stretch",
        help="At the exact counts that masks and files use. The chart of learning rates shows the publication's "
        "own reading, at rounded-down counts, which are a little too sparse on average.",
    )
    columns[2].metric(
        "Learning rate",
        "none" if rate is None else f"{rate:+g}",
        f"{len(result.tried)} tried" + (": stays uniform" if rate is None else ""),
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="Positive: rows that keep their quality give more weights. Negative: rows that lose it do.",
    )
    columns[3].metric(
        "Layer sparsity",
        f"{pruned / weights:.2%}",
        f"{pruned:,} of {weights:,} weights",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
    )
    if len(study.dead_rows):
        st.caption(
            f":material/warning: {len(study.dead_rows):,} of {study.rows:,} rows have no output on this text "
            f"(for example row {study.dead_rows[0]}); their cosine is 0 at any sparsity."
        )


model = finished(laboratory().model("demo"), "demo")
layer, score = choose_layer(model)
options = choose_search_options()
st.sidebar.segmented_control(
    "Charts are saved as",
    ["svg", "png"],
    default="svg",
    required=True,
    key="picture_format",
    format_func=str.upper,
)
key = StudyKey(SampleKey(), layer, score)
study = finished(laboratory().study(key, model), key)
st.title(layer)
st.caption(
    f"{model.title} · {study.rows:,} rows (output dimensions) of {study.columns:,} weights · "
    f"{study.curves.vectors} calibration vectors from State of the Union addresses"
)
explore(study, options)
