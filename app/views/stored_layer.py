"""One layer as a run saw it, from what the run stored: needs neither the model nor a GPU."""

import re

import streamlit as st

from app.services.results.compared import Pick
from app.services.runs.layer import StoredLayer
from app.services.runs.store import STORE
from app.ui.common.cards import choose_picture_format, fact
from app.ui.common.present import kept
from app.ui.common.selection import choose_rows
from app.ui.common.text import plain
from app.ui.layer.stored_cards import (
    concentration_card,
    learning_rate_card,
    row_sparsity_card,
    row_table,
    similarity_card,
)
from trim import TrimError
from trim.runs.folder import Run


def heading(run: Run, layer: StoredLayer) -> None:
    """Which layer of which run this is."""
    record = layer.record
    st.title(plain(record.name))
    st.markdown(
        f"The layer as the run **{plain(run.name)}** saw it: why some rows survived and others did not, from what the "
        "run stored. No model is loaded."
    )
    refitted = (
        ""
        if record.error_left is None
        else f" · weights that stay refitted, which leaves {record.error_left:.1%} of the output error"
    )
    st.caption(
        f"{plain(run.model.title)} · {record.rows:,} rows (output dimensions) of {record.columns:,} weights · "
        f"{record.vectors:,} calibration vectors · score {plain(record.score)} · allocation {plain(layer.label)}"
        + refitted
    )


def summary(layer: StoredLayer) -> None:
    """Quality uniform against the run's own, the learning rate, the sparsity."""
    record = layer.record
    gain = record.realised_quality - record.uniform_quality
    columns = st.columns(4)
    fact(columns[0], "Layer quality, uniform", f"{record.uniform_quality:.5g}", record.quality_measure)
    columns[1].metric(
        f"Layer quality, {layer.label}",
        f"{record.realised_quality:.5g}",
        f"{gain:+.2g} against uniform",
        border=True,
        height="stretch",
    )
    rate = record.search.learning_rate if record.search else None
    fact(
        columns[2],
        "Learning rate",
        "not searched" if record.search is None else "none" if rate is None else f"{rate:+g}",
        f"{len(record.search.tried)} tried" if record.search else "",
    )
    fact(
        columns[3],
        "Layer sparsity",
        f"{record.sparsity:.2%}",
        f"{record.pruned:,} of {record.rows * record.columns:,} weights",
    )


def needs_the_model(run: Run, layer: StoredLayer) -> None:
    """Which controls are not here, and the way to them."""
    request = run.request
    block, _, path = layer.record.name.partition(".")
    asked = {
        "model": request.model,
        "text": request.corpus,
        "windows": request.windows,
        "length": request.length,
        "vectors": request.vectors_per_sequence,
        "seed": request.seed,
        "bos": str(request.bos).lower(),
        "block": block,
        "layer": path,
        "score": layer.record.score,
        "target": min(99, max(1, round(100 * layer.record.sparsity))),
        "rows": st.session_state.get("rows") or None,
    }
    with st.container(border=True, key="needs-model"):
        st.markdown("**With the model there is more to see**")
        st.caption(
            "Moving the target, trying other search options, the picture of the mask, Lorenz curves and the inspector "
            "of one row need the weights. The Layer page loads the dense model and shows this layer there; what it "
            "receives differs from what this run saw, because no block before it is pruned."
        )
        st.page_link(
            "views/layer.py",
            label="Load the model and open this layer",
            icon=":material/science:",
            query_params={name: str(value) for name, value in asked.items() if value is not None} | kept(),
        )


def side_bar(run: Run, name: str) -> None:
    """The list of the run's layers; another one changes the address."""

    def moved() -> None:
        st.query_params["layer"] = st.session_state["stored_layer"]

    if st.session_state.get("stored_layer") != name:
        st.session_state["stored_layer"] = name
    with st.sidebar:
        st.selectbox("Layer of this run", run.layers, key="stored_layer", on_change=moved)
        if run.kind == "model":
            st.page_link(
                "views/model.py",
                label="The whole run",
                icon=":material/grid_on:",
                query_params={"run": run.id, **kept()},
            )
        own, uniform = Pick(run.id, name), Pick(run.id, name, uniform=True)
        st.page_link(
            "views/compare.py",
            label="Compare it with uniform",
            icon=":material/compare_arrows:",
            query_params={"a": str(own), "b": str(uniform), **kept()},
        )
        choose_picture_format()


def page() -> None:
    """The layer that the address names."""
    run_id = st.query_params.get("run")
    if run_id is None:
        st.title("Which layer of which run?")
        st.info("Open a run on the Model page and click a cell of its maps.", icon=":material/touch_app:")
        st.page_link("views/model.py", label="To the Model page", icon=":material/grid_on:")
        return
    run = STORE.open(run_id)
    name = st.query_params.get("layer") or next(iter(run.layers), "")
    layer = StoredLayer.of(run, STORE.layer(run_id, name))
    side_bar(run, name)
    heading(run, layer)
    summary(layer)
    rows = choose_rows(layer, layer)
    key = (run.path, run.created, name)
    file_name = re.sub(r"\W+", "-", f"{run.id}-{name}")
    above, below = st.columns(2), st.columns(2)
    with above[0]:
        concentration_card(layer, key, rows, file_name)
    with above[1]:
        similarity_card(layer, rows, file_name)
    with below[0]:
        row_sparsity_card(layer, key, rows, file_name)
    with below[1]:
        learning_rate_card(layer, rows, file_name)
    st.subheader("Selected rows")
    row_table(layer, rows)
    needs_the_model(run, layer)


try:
    page()
except TrimError as error:
    st.title("This layer cannot be shown")
    st.error(plain(error), icon=":material/error:")
    st.page_link("views/model.py", label="To the Model page", icon=":material/grid_on:")
