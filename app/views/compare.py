"""Up to eight layers side by side: distributions, the same rows, masks, whole models. No model is loaded."""

from collections.abc import Iterator

import streamlit as st

from app.services.results.compared import LIVE, LIVE_LAYERS, Compared, in_common, labelled, read_slot
from app.services.results.picks import LETTERS, Pick, default_picks, layers_of
from app.services.runs.facts import text_title
from app.services.runs.store import STORE, StoredRun
from app.ui.common.guard import guarded
from app.ui.common.present import link
from app.ui.common.segments import segments
from app.ui.common.selection import choose_rows
from app.ui.common.slots import live_pick, set_slots, slot_address, slots
from app.ui.common.studio import set_caption_settings
from app.ui.common.text import literal
from app.ui.common.waiting import study_in_memory
from app.ui.compare.cards import distribution_card, pair_cards, pairable, quantities, sweep_card
from app.ui.compare.slots import slot_bar
from app.ui.compare.tables import distances, moved_table, selected_table, settings_table
from app.ui.compare.text import METHODS_IN_A_FEW_WORDS
from trim.errors import RunError


def picks_to_show(entries: list[StoredRun]) -> list[Pick]:
    """Return the picks of the address, or else those added on other pages, or else default picks."""
    texts = [st.query_params[letter.lower()] for letter in LETTERS if letter.lower() in st.query_params]
    runs = {entry.id: entry.run for entry in entries if entry.run is not None}
    picks = []
    for text in texts or slots():
        with guarded():
            pick = Pick.parse(text)
            if pick.run_id.startswith(LIVE):
                LIVE_LAYERS.get(pick.run_id)
            elif pick.run_id not in runs or not layers_of(pick, runs[pick.run_id].layers):
                raise RunError(
                    f"There is no layer {pick.layer[:60]!r} of a run {pick.run_id[:60]!r} to compare; it may have been "
                    "deleted, or cannot be read."
                )
            picks.append(pick)
    if picks:
        write(picks)
    return picks or open_layer() or default_picks(entries)


def open_layer() -> list[Pick]:
    """Pick the layer that the Layer page showed last: TRIM, the optimum and uniform at its target."""
    if "last_explored" not in st.session_state:
        return []
    key, settings = st.session_state["last_explored"]
    if (study := study_in_memory(key)) is None:
        return []
    outcome = study.outcome(settings)
    return [live_pick(study, outcome, each.method) for each in reversed(outcome.view.allocations)]


def write(picks: list[Pick]) -> None:
    """Put the picks into the address, and into the list that other pages add to."""
    set_slots(picks)
    address = slot_address(slots())
    for letter in map(str.lower, LETTERS):
        if letter in address:
            st.query_params[letter] = address[letter]
        elif letter in st.query_params:
            del st.query_params[letter]


def read(picks: list[Pick]) -> list[Compared]:
    """Read the picks that can be read; the page says why the others cannot."""
    compared = []
    for slot, pick in enumerate(picks):
        with guarded(f"{LETTERS[slot]}: "):
            compared.append(read_slot(STORE, slot, pick))
    return labelled(compared)


def sources(compared: list[Compared]) -> Iterator[str]:
    """Describe the origin of each slot for captions; shared facts come once."""
    if shared := in_common(compared):
        yield shared
    for method in dict.fromkeys(each.first.own.method for each in compared):
        if method in METHODS_IN_A_FEW_WORDS:
            yield METHODS_IN_A_FEW_WORDS[method]
    for each in compared:
        request = each.source.request
        if each.source.run is not None:
            yield f"{each.label}: {each.source.name}"
        yield each.source.model.title
        yield f"score {request.score}"
        yield f"{text_title(each.source.text, request)}, seed {request.seed}"


def errors_by_block(ids: set[str], entries: list[StoredRun]) -> None:
    """Draw where error builds up in the compared runs, if that was measured."""
    runs = [entry.run for entry in entries if entry.id in ids and entry.run is not None]
    runs = [run for run in runs if run.kind == "model"]
    if any("blocks" in run.diagnoses for run in runs):
        from app.ui.common.block_errors import block_errors_card

        block_errors_card(runs, "compare-block-errors")
    elif runs:
        with st.container(border=True, key="card-block-errors"):
            st.markdown("**Where does error build up?**")
            st.caption("It was not measured for any of these runs yet.")
            label = f"Measure it for {literal(runs[0].name)}"
            link("model", label, "speed", run=runs[0].id, model_part="Errors by block")


@st.fragment
def views(compared: list[Compared]) -> None:
    """Draw the whole page; a selection of rows reruns only this fragment."""
    several = len(compared) > 1
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="choices"):
        quantity = segments("Of each row", quantities(compared), "compare_quantity")
        if several:
            label = f"{compared[0].letter} against"
            st.markdown(label, width="content")
            letter = segments(label, [each.letter for each in compared[1:]], "against")
            what = segments("Of their", ("Rows", "Masks"), "pair_view")
    left, right = st.columns([3, 2]) if several else (st.container(), st.container())
    rows = []
    if together := pairable(compared):
        first = compared[0].first
        rows = choose_rows(first.rows, lambda: first)
    with left:
        distribution_card(compared, rows, quantity)
    pair = None
    if several:
        with right, guarded():
            pair = pair_cards(compared, rows, letter, what)
    left, right = st.columns([3, 2])
    with left:
        settings_table(compared)
        if together and rows:
            selected_table(compared, rows)
    with right:
        distances(compared, pair)
        if pair is not None:
            moved_table(pair)


with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="heading"):
    st.title("How do layers differ?", width="content")
    common = st.empty()
entries = STORE.runs()
chosen = picks_to_show(entries)
picks = list(chosen)
if len(picks) == 1 and "*" not in picks[0].layer:  # until another is added
    picks.append(Pick(picks[0].run_id, picks[0].layer, uniform=not picks[0].uniform))
if not picks:
    st.info(
        "Nothing to compare yet. Press “Add to compare” on the Layer page, or prune a model on the Model page.",
        icon=":material/info:",
    )
else:
    compared = read(picks)
    if compared:
        common.caption(literal(in_common(compared)))
    slot_bar(picks, chosen, compared, entries, write)
    if compared:
        with guarded():
            set_caption_settings(*dict.fromkeys(sources(compared)))
            views(compared)
with st.expander("Whole models: what sparsity costs, and where error builds up", icon=":material/grid_on:"):
    left, right = st.columns(2)
    with left, guarded():
        sweep_card()
    with right, guarded():
        errors_by_block({pick.run_id for pick in picks}, entries)
