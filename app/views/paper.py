"""The figures of the TRIM paper, redrawn from stored runs, with the differences."""

from collections.abc import Callable, Hashable

import streamlit as st

from app.services.results.picks import DEFAULT_LAYER
from app.services.runs.layer import LayerView
from app.services.runs.store import STORE
from app.ui.common.cards import card
from app.ui.common.guard import guarded
from app.ui.common.studio import set_caption_settings
from app.ui.common.text import literal
from app.ui.paper import Redrawn, figure_1, figure_2, figure_3a, figure_3b, figure_3c, figure_4, redrawn
from trim.runs.folder import Run

NONE = "none"


def show(number: str, made_of: Hashable, draw: Callable[[], Redrawn | None], missing: str = "") -> None:
    """Show one figure: the paper's description on the left, ours on the right; `missing`: it cannot be drawn."""
    with guarded():
        figure = redrawn((number, made_of), draw)
        if figure is None:
            st.info(missing, icon=":material/info:")
            return
        st.subheader(f"Figure {number}: {figure.title}", anchor=f"figure-{number}")
        left, picture = st.columns([2, 3], gap="large")
        with left:
            st.markdown(f"**The paper.** {figure.paper}")
            st.markdown(f"**Where ours differs.** {literal(figure.differs)}")
        with picture:
            card(f"paper_{number}", figure.views, file_name="paper", shared=figure)


def runs_of_trim() -> dict[str, Run]:
    """Return runs of TRIM on whole models, those that came with the app first."""
    entries = [
        entry
        for entry in STORE.runs()
        if entry.run is not None
        and entry.run.kind == "model"
        and entry.run.layers
        and entry.run.request.allocation == "trim"
    ]
    return {entry.id: entry.opened() for entry in sorted(entries, key=lambda entry: not entry.shipped)}


def choose(runs: dict[str, Run]) -> tuple[Run, str, list[Run]]:
    """Choose the run, the layer for the figures of one layer, and the runs of figure 3c."""
    left, middle, right = st.columns(3)
    run_id = left.selectbox("Run of TRIM", list(runs), key="paper_run", bind="query-params")
    run = runs[run_id]
    default = run.layers.index(DEFAULT_LAYER) if DEFAULT_LAYER in run.layers else 0
    layer = middle.selectbox(
        "Layer (figures 1, 3a, 3b)", run.layers, default, key="paper_layer", bind="query-params"
    )
    second = NONE
    if others := [name for name in runs if name != run_id]:
        second = right.selectbox(
            "A second run (figure 3c)", [NONE, *others], key="paper_second", bind="query-params"
        )
    return run, layer, [run] if second == NONE else [run, runs[second]]


st.title("What does the paper show, and what do our runs?")
st.markdown(
    "The figures of *TRIM: Achieving Extreme Sparsity with Targeted Row-wise Iterative Metric-driven Pruning* "
    "([arXiv 2505.16743](https://arxiv.org/abs/2505.16743)), redrawn from runs in the store. What we write about the "
    "paper is what its figures and its abstract show; what we write about our runs is computed from the numbers shown."
)
runs = runs_of_trim()
if not runs:
    st.info(
        "There is no run of TRIM on a whole model yet; make one on the Model page.", icon=":material/info:"
    )
    st.stop()
run, layer_name, runs_3c = choose(runs)
st.caption(literal(f"{run.name} · {run.model.title}"))
set_caption_settings(run.model.title, f"layer {layer_name}", f"run {run.name}")


def stored() -> LayerView:
    """Read the chosen layer of the chosen run."""
    return STORE.view(run, layer_name)


sweeps = tuple(entry.sweep for entry in STORE.sweeps() if entry.sweep is not None)
show("1", (run, layer_name), lambda: figure_1(stored()))
show(
    "2",
    sweeps,
    lambda: figure_2(sweeps),
    "Figure 2 needs a sweep at two model sparsities from 70% up: `python -m trim sweep demo --help`.",
)
show("3a", (run, layer_name), lambda: figure_3a(stored()))
show("3b", (run, layer_name), lambda: figure_3b(stored()))
show("3c", tuple(runs_3c), lambda: figure_3c(runs_3c))
show("4", run, lambda: figure_4(run), "Figure 4 needs layers named k_proj, which this model does not have.")
