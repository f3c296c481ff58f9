"""A reader's list of up to eight picks to compare: every page can add to it, and the Compare page shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.services.layer.keys import StudyKey
from app.services.layer.request import request_of
from app.services.results.compared import LIVE_LAYERS, ComparedSource
from app.services.results.picks import LETTERS, Pick
from app.ui.common.present import link
from diagnostics.format import percent
from trim.methods.search_settings import SearchSettings

if TYPE_CHECKING:  # it computes
    from app.services.layer.study import Outcome, Study

_SLOTS = "compared"


def slots() -> list[str]:
    """Return the reader's picks as the address writes them."""
    found: list[str] = st.session_state.setdefault(_SLOTS, [])
    return found


def set_slots(picks: Sequence[Pick]) -> None:
    """Replace the reader's picks."""
    st.session_state[_SLOTS] = [str(pick) for pick in picks[: len(LETTERS)]]


def add_to_compare(make: Callable[[], Sequence[Pick]], key: str, more: str = "") -> None:
    """Show the button "Add to compare" and, once something was added, a link to the Compare page.

    Args:
        make: returns the picks to add when the button is pressed.
        key: the button's key.
        more: names further picks in the button's help, such as " and uniform".
    """
    count = len(slots())
    with st.container(
        horizontal=True, vertical_alignment="center", gap="xsmall", width="content", key=f"{key}_box"
    ):
        st.button(
            "Add to compare",
            icon=":material/add_chart:",
            key=key,
            type="tertiary",
            on_click=lambda: _add(make()),  # in a callback, as the page's script may be interrupted
            help=f"What is shown{more}: a curve each on Compare, up to eight.",
        )
        if count:
            compare_link([], f"Compare {count}" if count > 1 else "Compare it")


def compare_link(picks: Sequence[Pick], label: str = "Compare it") -> None:
    """Show a link that adds picks and opens Compare, for places where a button would vanish before its click counts."""
    texts = [*slots(), *(str(pick) for pick in picks if str(pick) not in slots())]
    link("compare", label, "compare_arrows", **slot_address(texts))


def slot_address(texts: Sequence[str]) -> dict[str, str]:
    """Return the part of an address that holds picks: "a=…&b=…"."""
    return {letter.lower(): text for letter, text in zip(LETTERS, texts, strict=False)}


def _add(picks: Sequence[Pick]) -> None:
    present = slots()
    new = [str(pick) for pick in picks if str(pick) not in present]
    room = len(LETTERS) - len(present)
    present += new[:room]
    if len(new) > room:
        st.toast("Compare holds eight. Remove one there first.", icon=":material/info:")
    elif not new:
        st.toast("It is there already.", icon=":material/check:")


@dataclass(frozen=True)
class LiveOrigin:
    """The study and settings from which another target of a live layer is computed.

    Attributes:
        key: the study's key.
        settings: the search's settings.
        weighed: whether the optimum weighs rows by their sensitivities.
    """

    key: StudyKey
    settings: SearchSettings
    weighed: bool


def live_pick(study: Study, outcome: Outcome, method: str) -> Pick:
    """Store an allocation of a live layer for the Compare page, without keeping a run.

    Args:
        study: the study that is explored.
        outcome: its outcome at the chosen target.
        method: "uniform", "trim" or "optimal".
    """
    request = request_of(study, outcome, method)
    label = outcome.view.allocation(method).label
    name = f"{study.key.layer} at {percent(outcome.view.target, 0)}, {label}, live"
    origin = LiveOrigin(study.key, outcome.result.settings, outcome.optimum.sensitivity is not None)
    source = ComparedSource(name, study.origin.model, request, study.origin.text, live=origin)
    return LIVE_LAYERS.add(outcome.view, method, source)
