"""Further views of a layer, each with its question: which of them there are, and the one that is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.services.runs.layer import LayerView
from trim.models.roles import in_mlp
from trim.runs.folder import Run

if TYPE_CHECKING:
    from app.services.layer.study import Outcome, Study

MORE = "More"


@dataclass(frozen=True, eq=False)
class Seen:
    """The layer of the page.

    Attributes:
        view: with the allocations that are shown.
        whole: the same with all of them.
        rows: the selected ones.
        file_name: of the downloads, without their endings.
        live: of a layer computed now, its study and outcome; None: it is stored.
        run: of a stored layer, its run; None: it is computed now.
    """

    view: LayerView
    whole: LayerView
    rows: list[int]
    file_name: str
    live: tuple[Study, Outcome] | None = None
    run: Run | None = None


def further_views(seen: Seen) -> dict[str, Callable[[Seen], None]]:
    """Return the further views that there are of this layer."""
    views: dict[str, Callable[[Seen], None]] = {}
    if seen.view.heads is not None:
        views["Heads"] = _heads
    if seen.live is not None:
        views["All targets"] = _targets
        views["Agreement"] = _agreement
    views["Input features"] = _inputs
    if in_mlp(seen.view.name):
        views["Channels"] = _channels
    return views


def more_section(seen: Seen) -> None:
    """Choose one of the further views, and draw it; the address holds which."""
    views = further_views(seen)
    if not views:
        st.info("There are no further views of this layer.", icon=":material/info:")
        return
    if st.session_state.get("more") not in views:
        st.session_state.pop("more", None)
    chosen = st.segmented_control(
        "Further view",
        list(views),
        default=next(iter(views)),
        required=True,
        key="more",
        bind="query-params",
        label_visibility="collapsed",
    )
    views[chosen](seen)


# Each imports its own parts: with them come Plotly and SciPy, which the other parts of the page do not wait for.
def _heads(seen: Seen) -> None:
    from app.ui.layer.heads import heads_card

    heads_card(seen.view, seen.file_name)


def _targets(seen: Seen) -> None:
    from app.ui.layer.targets import targets_card

    assert seen.live is not None, "further_views asks"
    targets_card(*seen.live, seen.view, seen.rows, seen.file_name)


def _inputs(seen: Seen) -> None:
    from app.ui.layer.inputs import inputs_card

    inputs_card(seen)


def _channels(seen: Seen) -> None:
    from app.ui.layer.channels import channels_card

    channels_card(seen)


def _agreement(seen: Seen) -> None:
    from app.ui.layer.agreement import agreement_section

    agreement_section(seen)
