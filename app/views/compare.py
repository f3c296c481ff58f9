"""Up to four layers of stored runs side by side: distributions, distances, the same rows. No model is loaded."""

import itertools

import streamlit as st

from app.services.results.compared import (
    LETTERS,
    Compared,
    Pick,
    comparison,
    default_picks,
    opened,
    run_label,
)
from app.services.runs.store import STORE, StoredRun
from app.ui.common.guard import guarded
from app.ui.common.selection import choose_rows
from app.ui.common.text import plain
from app.ui.compare.cards import (
    distances,
    distribution_card,
    gini_card,
    moved_table,
    pair_card,
    pairable,
    selected_table,
    settings_table,
    sweep_card,
)
from trim.errors import RunError

NOTHING = ""


def asked(entries: list[StoredRun]) -> list[Pick]:
    """Return what the address asks for and the store has, or else what is worth a first look."""
    picks, problems = [], []
    layers = {entry.id: entry.run.layers for entry in entries if entry.run is not None}
    for letter in LETTERS:
        text = st.query_params.get(letter.lower())
        if text is None:
            continue
        try:
            pick = Pick.parse(text)
            if pick.layer not in layers.get(pick.run_id, ()):
                raise RunError(
                    f"There is no layer {pick.layer[:60]!r} of a run {pick.run_id[:60]!r} to compare; it may have been "
                    "deleted, or cannot be read."
                )
            picks.append(pick)
        except RunError as error:
            problems.append(str(error))
    for problem in problems:
        st.warning(plain(problem), icon=":material/link_off:")
    return picks or default_picks(entries)


def write(picks: list[Pick]) -> None:
    """Put the picks into the address."""
    for place, letter in enumerate(LETTERS):
        name = letter.lower()
        if place < len(picks):
            st.query_params[name] = str(picks[place])
        elif name in st.query_params:
            del st.query_params[name]


def choose(picks: list[Pick], entries: list[StoredRun]) -> None:
    """Show a column for each letter: the run, the layer, and as it was pruned or uniform."""
    runs = {entry.id: entry for entry in entries if entry.run is not None and entry.run.layers}

    def changed() -> None:
        chosen = []
        for letter in LETTERS:
            run_id = st.session_state.get(f"compare_{letter}_run")
            if not run_id:
                continue
            layers = runs[run_id].opened().layers
            layer = st.session_state.get(f"compare_{letter}_layer")
            if layer not in layers:
                layer = next((pick.layer for pick in picks if pick.layer in layers), layers[0])
            chosen.append(Pick(run_id, layer, bool(st.session_state.get(f"compare_{letter}_uniform"))))
        write(chosen)

    for place, (letter, column) in enumerate(zip(LETTERS, st.columns(len(LETTERS)), strict=True)):
        pick = picks[place] if place < len(picks) else None
        with column, st.container(border=True, height="stretch", key=f"choice-{letter}"):
            options = list(runs) if place < 2 else [NOTHING, *runs]
            st.session_state[f"compare_{letter}_run"] = pick.run_id if pick else NOTHING
            st.selectbox(
                f"{letter}: run",
                options,
                format_func=lambda name: run_label(runs[name]) if name else "nothing",
                key=f"compare_{letter}_run",
                on_change=changed,
            )
            if pick is None:
                continue
            st.session_state[f"compare_{letter}_layer"] = pick.layer
            st.selectbox(
                f"{letter}: layer",
                runs[pick.run_id].opened().layers,
                key=f"compare_{letter}_layer",
                on_change=changed,
            )
            st.session_state[f"compare_{letter}_uniform"] = pick.uniform
            st.toggle(
                "as uniform would prune it",
                key=f"compare_{letter}_uniform",
                on_change=changed,
                help="At the same layer sparsity, every row alike.",
            )


def read(picks: list[Pick]) -> list[Compared]:
    """Those that can be read; the page says of the others why not."""
    compared = []
    for letter, pick in zip(LETTERS, picks, strict=False):
        with guarded(f"{letter}: "):
            compared.append(opened(STORE, letter, pick))
    return compared


@st.fragment
def views(compared: list[Compared]) -> None:
    """Everything that is drawn; a selection of rows runs only this again."""
    rows = choose_rows(compared[0].stored) if pairable(compared) else []
    pairs = [comparison(one, other) for one, other in itertools.combinations(compared, 2)]
    left, right = st.columns(2)
    with left:
        distribution_card(compared, rows)
    with right:
        distances(pairs)
    left, right = st.columns(2)
    with left:
        pair = pair_card(compared, rows)
    with right:
        if pair is not None:
            moved_table(pair)
        if rows:
            st.markdown("**Selected rows**")
            selected_table(compared, rows)
    st.subheader("How concentrated were the rows?")
    gini_card(compared)


st.title("How do allocations differ?")
st.markdown(
    "An allocation says how many weights each row of a layer loses (the page Learn explains how). Here up to four "
    "layers of stored runs are compared by their rows' sparsities: as distributions, by distance, and row by row where "
    "the rows are the same ones."
)
entries = STORE.runs()
picks = asked(entries)
if len(picks) == 1:
    picks.append(Pick(picks[0].run_id, picks[0].layer, uniform=not picks[0].uniform))
if len(picks) < 2:
    st.info(
        "Two layers are needed. Keep a layer from the Layer page, or prune a model on the Model page.",
        icon=":material/info:",
    )
else:
    choose(picks, entries)
    compared = read(picks)
    if len(compared) > 1:
        with guarded():
            settings_table(compared)
            views(compared)
st.subheader("Whole models")
with guarded():
    sweep_card()
