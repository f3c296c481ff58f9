"""Other targets of a compared layer: computed at once if the layer is in memory, else a link to the Layer page."""

import dataclasses
from collections.abc import Callable, Sequence

import streamlit as st

from app.services.results.compared import Compared
from app.services.results.picks import Pick
from app.services.runs.layer import METHOD_LABELS
from app.ui.common.live_link import live_link
from app.ui.common.slots import LiveOrigin, live_pick
from app.ui.common.text import literal
from app.ui.common.waiting import study_in_memory
from trim.errors import TrimError

TARGETS = (50, 60, 70, 80, 90)  # percent


def other_targets(
    slot: Compared, picks: Sequence[Pick], compared: Sequence[Compared], write: Callable[[list[Pick]], None]
) -> None:
    """Show a button for each target that is not compared yet, or a link if the layer is not in memory."""
    origin = slot.source.live
    if isinstance(origin, LiveOrigin) and study_in_memory(origin.key) is not None:
        compared_already = {
            (each.first.own.method, round(100 * target))
            for each in compared
            if each.pick in picks
            and (target := each.source.request.target) is not None
            and isinstance(each.source.live, LiveOrigin)
            and each.source.live.key == origin.key
        }
        # An optimum that weighs rows by their sensitivities needs these, which the Layer page measures.
        for method in ("trim", "uniform") if origin.weighed else ("trim", "optimal", "uniform"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(METHOD_LABELS[method], width=60)
                for target in TARGETS:
                    st.button(
                        f"{target}%",
                        key=f"compare_add_{method}_{target}",
                        disabled=(method, target) in compared_already,
                        on_click=_add,
                        args=(origin, method, target, picks, write),
                    )
    else:
        open_live(slot, "Other targets: open A live")


def open_live(slot: Compared, label: str) -> None:
    """Show a link to a layer of the dense model, unless the slot holds several layers."""
    if slot.single is not None and "*" not in slot.pick.layer:
        live_link(
            slot.source.request, slot.pick.layer, slot.sparsity, score=slot.single.score_name, label=label
        )


def _add(
    origin: LiveOrigin, method: str, target: int, picks: Sequence[Pick], write: Callable[[list[Pick]], None]
) -> None:
    study = study_in_memory(origin.key)
    if study is None:
        st.toast("The layer is no longer in memory. Open it on the Layer page.", icon=":material/info:")
        return
    try:
        outcome = study.outcome(dataclasses.replace(origin.settings, target_sparsity=target / 100))
    except TrimError as error:
        st.toast(literal(error), icon=":material/error:")
    else:
        write([*picks, live_pick(study, outcome, method)])
