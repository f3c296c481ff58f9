"""Links from a run to the dense model: to one of its layers, and to a new run with the same settings."""

from app.services.server.access import SEMINAR
from app.ui.common.present import link
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
    """Show a link to the same layer of the dense model, where its target can be moved.

    Args:
        request: the run's settings.
        name: the layer's name.
        sparsity: the layer's sparsity, the target there.
        score: the score that it was pruned by; "": the run's.
        rows: the selected rows.
        label: the link's label.
    """
    block, _, path = name.partition(".")
    address = {
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
    link(
        "layer",
        label,
        "bolt",
        help="Loads the dense model: another target, other options, and what needs the weights. What the layer "
        "receives there, and so its Gini, differs a little: no block before it is pruned.",
        **{name: SEMINAR.without_paths(str(value)) for name, value in address.items() if value is not None},
    )


def prune_again(run: Run) -> None:
    """Show a link to the form for a new run, filled with the settings of a run."""
    link("model", "Prune with these settings", "add", **{"run": run.id, "from": run.id})
