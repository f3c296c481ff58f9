"""The ways from a run to the dense model: to a layer of it, and to a new run with the same settings."""

import streamlit as st

from app.services.server.access import SEMINAR
from app.ui.common.present import kept
from trim.runs.folder import Run
from trim.runs.settings import PruneSettings


def live_link(
    request: PruneSettings,
    name: str,
    sparsity: float,
    *,
    score: str = "",
    rows: str | None = None,
    label: str = "Open this layer live",
) -> None:
    """Show the way to the same layer of the dense model, where its target can be moved.

    Args:
        request: the run's settings.
        name: of the layer.
        sparsity: of the layer, which is the target there.
        score: by which it was pruned; "": the run's.
        rows: that are selected.
        label: of the link.
    """
    block, _, path = name.partition(".")
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
        "score": score or request.score,
        "target": min(99, max(1, round(100 * sparsity))),
        "rows": rows or None,
    }
    st.page_link(
        "views/layer.py",
        label=label,
        icon=":material/bolt:",
        help="Loads the dense model: another target, other options, and what needs the weights. What the layer "
        "receives there, and so its Gini, differs a little: no block before it is pruned.",
        query_params={
            name: SEMINAR.without_paths(str(value)) for name, value in asked.items() if value is not None
        }
        | kept(),
    )


def prune_again(run: Run) -> None:
    """Show the way to the form for a new run, filled with the settings of a run."""
    st.page_link(
        "views/model.py",
        label="Prune with these settings",
        icon=":material/add:",
        query_params={"run": run.id, "from": run.id, **kept()},
    )
