"""Further views of a layer, each with its question; one is open at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.services.runs.layer import LayerView
from app.ui.common.segments import segments
from trim.models.roles import in_mlp
from trim.names import expert_number
from trim.runs.folder import Run

if TYPE_CHECKING:
    from app.services.layer.study import Outcome, Study

MORE = "More"


@dataclass(frozen=True, eq=False)
class ShownLayer:
    """The layer of the page.

    Attributes:
        view: the layer with the shown allocations.
        whole: the layer with all allocations.
        rows: the selected rows.
        file_name: name of the downloads, without suffix.
        live: study and outcome of a live layer; None: the layer is stored.
        run: the run of a stored layer; None: the layer is live.
    """

    view: LayerView
    whole: LayerView
    rows: list[int]
    file_name: str
    live: tuple[Study, Outcome] | None = None
    run: Run | None = None

    @property
    def stored(self) -> tuple[Run, str]:
        """Return the run of a stored layer, and the layer's name there."""
        assert self.run is not None, "the layer is computed now"
        return self.run, self.view.name


def more_section(shown: ShownLayer) -> None:
    """Choose one of the further views, which the address holds, and draw it."""
    views = ({"Experts": _experts} if expert_number(shown.view.name) else {}) | VIEWS
    if shown.live is None:
        del views[SOLVED]  # the rows of a run already show its solved weights
    views[segments("Further view", views, "more", bind="query-params")](shown)


# Each view imports its own modules, so that the other parts of the page do not wait for Plotly and SciPy.
def _heads(shown: ShownLayer) -> None:
    if shown.view.heads is None:
        why = (
            ""
            if shown.run is None or shown.run.heads
            else ", or its run does not say which heads the model has"
        )
        st.info(f"This layer has no attention heads{why}.", icon=":material/info:")
        return
    from app.ui.layer.heads import heads_card

    heads_card(shown.view, shown.file_name)


def _targets(shown: ShownLayer) -> None:
    from app.ui.layer.targets import targets_section

    targets_section(shown)


def _inputs(shown: ShownLayer) -> None:
    from app.ui.layer.inputs import inputs_card

    inputs_card(shown)


def _channels(shown: ShownLayer) -> None:
    if not in_mlp(shown.view.name):
        st.info("This layer is not one of an MLP, whose channels are compared here.", icon=":material/info:")
        return
    from app.ui.layer.channels import channels_card

    channels_card(shown)


def _experts(shown: ShownLayer) -> None:
    from app.ui.layer.experts import experts_card

    experts_card(shown)


def _agreement(shown: ShownLayer) -> None:
    from app.ui.layer.agreement import agreement_section

    agreement_section(shown)


def _solved(shown: ShownLayer) -> None:
    from app.ui.layer.solved import solved_section

    solved_section(shown)


def _signal(shown: ShownLayer) -> None:
    from app.ui.layer.signal import signal_section

    signal_section(shown)


SOLVED = "Solved"
VIEWS: dict[str, Callable[[ShownLayer], None]] = {
    "All targets": _targets,
    "Agreement": _agreement,
    SOLVED: _solved,
    "Signal": _signal,
    "Input features": _inputs,
    "Heads": _heads,
    "Channels": _channels,
}
