"""The bar of slots: what each shows, how to change it, and how to add another."""

from collections.abc import Callable
from functools import lru_cache

import streamlit as st

from app.services.results.compared import LIVE, Compared
from app.services.results.picks import EVERY_BLOCK, LETTERS, Pick, kinds, related_picks, run_label
from app.services.runs.store import StoredRun
from app.ui.common.slots import slots
from app.ui.common.studio import theme
from app.ui.common.text import distinct, literal
from app.ui.compare.targets import open_live, other_targets
from diagnostics.figures.theme import slot_style
from trim.runs.folder import Run

# The first picture is visible without scrolling on a screen of 720 pixels.
_CLOSE_TOGETHER = """
.st-key-slots {padding-top: 0.5rem}
[data-testid=stMarkdownContainer] > table {font-size: 0.875rem}
[data-testid=stMarkdownContainer] > table :is(th, td) {overflow-wrap: anywhere; padding: 0.2rem 0.3rem}
[data-testid=stMarkdownContainer] > table tr > :first-child {min-width: 7.5rem}
.st-key-choices p {font-size: 0.875rem}
@media (max-width: 899px) { .st-key-slots {gap: 0.4rem} .st-key-slots button {min-height: 2.1rem} }
.st-key-card-compare_rows, .st-key-card-compare_many, .st-key-card-compare_pair {gap: 0.6rem}
"""
_PRESETS = {"every block": "A in every block", "all experts": "A of all experts"}
Write = Callable[[list[Pick]], None]


def slot_bar(
    picks: list[Pick], chosen: list[Pick], compared: list[Compared], entries: list[StoredRun], write: Write
) -> None:
    """Show a button for each slot, which opens its choices, and one to add another.

    Args:
        picks: the shown picks.
        chosen: the picks that the reader chose: `picks`, without one that was added to a single pick for contrast.
        compared: the picks that could be read.
        entries: the runs of the store.
        write: receives the new picks.
    """
    runs = {entry.id: entry for entry in entries if entry.run is not None and entry.run.layers}
    shown = {each.slot: each for each in compared}
    names = {each.pick.run_id: each.source.name for each in compared}
    colours = "".join(
        f".st-key-slot-{letter} button {{border-left: 0.5rem solid {slot_style(slot, theme()).colour}}}"
        for slot, letter in enumerate(LETTERS)
    )
    st.html(f"<style>{_CLOSE_TOGETHER}{colours}</style>")

    labels = distinct({run_id: run_label(run) for run_id, run in runs.items()})

    def label_of(run_id: str) -> str:
        return labels.get(run_id) or names.get(run_id, run_id)

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="slots"):
        # At the start of the bar, as the other buttons move when layers are added or removed.
        full = len(picks) == len(LETTERS)
        with st.popover("Add", icon=":material/add:", key="compare_add_box", disabled=full):
            if not full:
                if compared:
                    st.caption(f"{compared[0].letter} at another target")
                    other_targets(compared[0], chosen, compared, write)
                _add(chosen, runs, entries, label_of, write)
        if full:
            st.caption("Eight is the limit: remove one to add another.", width="content")
        for slot in range(len(picks)):
            letter = LETTERS[slot]
            with st.container(key=f"slot-{letter}", width="content"):
                # Keyed by its pick: when a slot is removed, the next one takes its place with a closed box.
                box = st.popover(
                    literal(shown[slot].label if slot in shown else f"{letter} cannot be read"),
                    key=f"box-{letter}-{picks[slot]}",
                )
            with box:
                _choices(slot, picks, runs, label_of, write)
                if slot in shown:
                    open_live(shown[slot], "Open this layer live")
        if not slots():
            own = any(pick.run_id.startswith(LIVE) for pick in picks)
            st.caption(
                "The layer that you explored last. “Add” compares it with others."
                if own
                else "An example. “Add to compare” on other pages begins your own.",
                width="content",
            )
        else:
            order = sorted(compared, key=_in_order)
            st.button(
                "Sort",
                icon=":material/sort:",
                type="tertiary",
                key="sort_slots",
                help="By model, layer and method, then by sparsity.",
                disabled=len(order) != len(chosen) or order == compared,
                on_click=write,
                args=([each.pick for each in order],),
            )
            st.button(
                "Remove all",
                icon=":material/close:",
                type="tertiary",
                key="remove_all",
                on_click=write,
                args=([],),
            )


def _in_order(each: Compared) -> tuple[str, str, str, float]:
    """Sort by model, layer, method and sparsity."""
    return each.source.model.title, each.pick.layer, each.first.own.label, each.sparsity


def _layers(runs: dict[str, StoredRun], run_id: str, layer: str) -> list[str]:
    if run_id not in runs:
        return [layer]
    return _layers_of(runs[run_id].opened())


@lru_cache(64)
def _layers_of(run: Run) -> list[str]:
    return [*run.layers, *kinds(run.layers)]


def _layer_label(layer: str) -> str:
    if layer.startswith(EVERY_BLOCK):
        return f"every block: {layer.removeprefix(EVERY_BLOCK)}"
    return f"all experts: {layer}" if "*" in layer else layer


def _choices(
    slot: int, picks: list[Pick], runs: dict[str, StoredRun], label_of: Callable[[str], str], write: Write
) -> None:
    pick, letter = picks[slot], LETTERS[slot]
    run_key, layer_key, uniform_key = (f"compare_{letter}_{name}" for name in ("run", "layer", "uniform"))

    def replace(new: Pick) -> None:
        write([*picks[:slot], new, *picks[slot + 1 :]])

    def moved() -> None:
        run_id = st.session_state[run_key]
        layers = _layers(runs, run_id, pick.layer)
        replace(Pick(run_id, pick.layer if pick.layer in layers else layers[0]))

    def changed() -> None:
        replace(Pick(pick.run_id, st.session_state[layer_key], st.session_state[uniform_key]))

    def removed() -> None:
        write([*picks[:slot], *picks[slot + 1 :]])

    st.session_state[run_key] = pick.run_id
    live = [pick.run_id] if pick.run_id.startswith(LIVE) else []
    st.selectbox(f"{letter}: run", [*live, *runs], format_func=label_of, key=run_key, on_change=moved)
    st.session_state[layer_key] = pick.layer
    st.selectbox(
        f"{letter}: layer",
        _layers(runs, pick.run_id, pick.layer),
        format_func=_layer_label,
        key=layer_key,
        on_change=changed,
    )
    st.session_state[uniform_key] = pick.uniform
    st.toggle(
        "As uniform would prune it",
        key=uniform_key,
        on_change=changed,
        help="At the same layer sparsity, with the same share of every row pruned.",
    )
    if len(picks) > 1:
        st.button("Remove", icon=":material/close:", key=f"compare_{letter}_remove", on_click=removed)


def _add(
    picks: list[Pick],
    runs: dict[str, StoredRun],
    entries: list[StoredRun],
    label_of: Callable[[str], str],
    write: Write,
) -> None:
    for words, more in related_picks(picks[0], entries).items():
        if new := [each for each in more if each not in picks]:
            st.button(
                _PRESETS.get(words, f"A with {words} ({len(new)})"),
                key=f"compare_add_{words.replace(' ', '_')}",
                on_click=write,
                args=([*picks, *new],),
            )
    if not runs:
        return
    last = picks[-1]
    run_id = st.selectbox(
        "Run",
        list(runs),
        list(runs).index(last.run_id) if last.run_id in runs else 0,
        format_func=label_of,
        key="compare_add_run",
    )
    layers = _layers(runs, run_id, last.layer)
    layer = st.selectbox(
        "Layer",
        layers,
        layers.index(last.layer) if last.layer in layers else 0,
        format_func=_layer_label,
        key=f"compare_add_layer_{run_id}",
    )
    one = Pick(run_id, layer)
    if one in picks:
        one = Pick(run_id, layer, uniform=True)
    st.button(
        "Add as uniform would prune it" if one.uniform else "Add",
        type="primary",
        key="compare_add",
        disabled=one in picks,
        on_click=write,
        args=([*picks, one],),
    )
