"""The first page: one layer of one model, TRIM re-run by a control."""

import streamlit as st

import trim
from app.services.studies import SampleKey, Study, StudyKey
from app.ui import explanations
from app.ui.cards import chart, theme
from app.ui.laboratory import finished, laboratory
from diagnostics.allocation import row_sparsity_statistics
from diagnostics.figures.allocation import row_sparsity_histogram
from diagnostics.figures.concentration import gini_histogram
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.similarity import cosine_figure
from diagnostics.similarity import cosine_statistics

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
        st.selectbox("Model", ["demo"], key="model", format_func=lambda _: "Demo: SmolLM2-135M", bind="query-params")
        st.selectbox(
            "Calibration text", ["demo"], key="text", format_func=lambda _: "Demo: State of the Union addresses"
        )
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
def explore(study: Study) -> None:
    """The target slider and the four views; only this part runs again when the slider is let go."""
    percent = st.slider(
        "Layer sparsity target: share of this layer's weights to prune",
        1,
        95,
        DEFAULT_TARGET_PERCENT,
        format="%d%%",
        key="target",
        bind="query-params",
    )
    outcome = study.outcome(trim.SearchSettings(percent / 100))
    show_summary(study, outcome)
    show_views(study, outcome)


def show_summary(study: Study, outcome) -> None:
    """Layer quality uniform against TRIM, and what the search did."""
    result = outcome.result
    uniform, learned = st.columns(2)
    gain = result.realised_quality - result.uniform_realised_quality
    columns = st.columns(4)
    columns[0].metric("Layer quality, uniform", f"{result.uniform_realised_quality:.5f}", border=True)
    columns[1].metric("Layer quality, TRIM", f"{result.realised_quality:.5f}", f"{gain:+.5f}", border=True)
    rate = result.learning_rate
    columns[2].metric(
        "Learning rate",
        "none" if rate is None else f"{rate:+g}",
        "stays uniform" if rate is None else ("positive" if rate > 0 else "negative"),
        delta_color="off",
        delta_arrow="off",
        border=True,
    )
    counts = result.counts.sum().item()
    columns[3].metric(
        "Layer sparsity, realised",
        f"{counts / (study.rows * study.columns):.2%}",
        f"{counts:,} of {study.rows * study.columns:,} weights",
        delta_color="off",
        delta_arrow="off",
        border=True,
    )


def show_views(study: Study, outcome) -> None:
    """The four views of one layer."""
    colours = theme()
    target = outcome.result.settings.target_sparsity
    left, right = st.columns(2)
    with left:
        chart(
            gini_histogram(study.gini, theme=colours),
            key="gini",
            seen=explanations.gini_seen(study),
            formula=explanations.GINI_FORMULA,
            alt="Histogram of the rows' Gini coefficients",
        )
    with right:
        statistics = cosine_statistics(study.cosine, study.grid / study.columns, target, outcome.cosines)
        chart(
            cosine_figure(statistics, theme=colours),
            key="cosine",
            seen=explanations.cosine_seen(study, outcome),
            formula=explanations.COSINE_FORMULA,
            alt="Percentile bands of the rows' cosine similarity against row sparsity",
        )
    left, right = st.columns(2)
    with left:
        chart(
            row_sparsity_histogram(row_sparsity_statistics(outcome.allocations), theme=colours),
            key="row_sparsity",
            seen=explanations.row_sparsity_seen(outcome),
            formula=explanations.ROW_SPARSITY_FORMULA,
            alt="Histogram of row sparsities, uniform and TRIM",
        )
    with right:
        chart(
            rate_figure(outcome.trace, theme=colours),
            key="rate",
            seen=explanations.rate_seen(outcome),
            formula=explanations.RATE_FORMULA,
            alt="Layer quality of each learning rate",
        )


model = finished(laboratory().model("demo"), "demo")
layer, score = choose_layer(model)
key = StudyKey(SampleKey(), layer, score)
study = finished(laboratory().study(key, model), key)
st.title(layer)
st.caption(
    f"{model.title} · {study.rows:,} rows (output dimensions) of {study.columns:,} weights · "
    f"{study.curves.vectors} calibration vectors from State of the Union addresses"
)
explore(study)
