"""The page of a whole model: start a run, watch it, and see what pruning did to each of its layers."""

import functools
import re

import streamlit as st

from app.services.jobs.manager import JOBS
from app.services.layer.keys import DEVICES
from app.services.results.perplexities import method_of
from app.services.results.tables import agreement_map, has_sensitivities, model_map
from app.services.runs.facts import text_title
from app.services.runs.layer import METHOD_LABELS
from app.services.runs.recoveries import recoveries_of
from app.services.runs.store import STORE, StoredRun
from app.ui.common import block_errors, tokens
from app.ui.common.cards import show_facts
from app.ui.common.diagnosis import diagnosis, text_options
from app.ui.common.guard import guarded
from app.ui.common.parts import OVERVIEW, choose_part
from app.ui.common.seminar import presenter_only
from app.ui.common.studio import set_caption_settings
from app.ui.common.text import distinct, literal
from app.ui.common.waiting import laboratory, result_or_progress
from app.ui.model.cards import (
    COSTS,
    MAPS,
    agreement_card,
    change_card,
    experts_card,
    experts_choice,
    map_card,
    open_layer,
    outcome_card,
    perplexity_card,
)
from app.ui.model.continue_prompt import continue_prompt_views
from app.ui.model.layer_costs import layer_costs_part
from app.ui.model.new_run import new_run_form
from app.ui.model.prefill import prefill
from app.ui.model.recover import recover_views
from app.ui.model.run_picker import choices, pick_run
from app.ui.model.run_watch import watch
from app.ui.model.sensitivity import sensitivity_variants
from diagnostics.format import change, counted, percent
from diagnostics.model_map import ModelMap
from trim import TrimError
from trim.methods.choices import LAYER_QUALITY_MEANINGS
from trim.runs.diagnosis_shapes import TokenDiagnosis
from trim.runs.folder import Run

MAX_COMPARED = 4
PARTS = (OVERVIEW, "Perplexity", "Text", "Recover", COSTS, "Errors by block", "Tokens")


def default_run(entries: list[StoredRun]) -> str | None:
    """Return the run being computed, or else the newest incomplete one, or else TRIM's that came with the app."""
    if (running := JOBS.running()) is not None:
        return running.id
    unfinished = [entry.id for entry in entries if entry.run is not None and not entry.run.complete]
    shipped = [
        entry.id for entry in entries if entry.shipped and entry.run and method_of(entry.run) == "trim"
    ]
    return next(iter(unfinished + shipped), None)


def new_run(entries: list[StoredRun]) -> None:
    """Show the form, folded away unless the address asks for it; else the page need not wait for its controls."""
    source = st.query_params.get("from")
    if source is not None and source != st.session_state.get("prefilled"):
        st.session_state["prefilled"] = source
        try:
            prefill(source)
            st.session_state["new_run"] = True
        except TrimError as error:
            st.warning(literal(error), icon=":material/link_off:")
    elif not entries:
        st.session_state.setdefault("new_run", True)
    if st.session_state.pop("fold_new_run", False):
        st.session_state["new_run"] = False  # the page now shows the progress of the started run
    with st.expander("Prune a model", icon=":material/add:", key="new_run", on_change="rerun") as box:
        if box.open and presenter_only("Pruning a model"):
            devices = result_or_progress(laboratory().devices(), DEVICES, "Preparing the form")
            if devices is not None:
                new_run_form(devices, entries)


def heading(run: Run, shown: ModelMap) -> None:
    """Show the run's model, target, method and total results."""
    request = run.request
    facts = [
        run.model.title,
        f"score {request.score}",
        f"allocation {request.pattern or METHOD_LABELS.get(request.allocation, request.allocation)}",
        f"budgets {run.budgets.get('method', request.budget)}",
        *(["kept weights refitted"] if request.refit and not request.solves else []),
        *(["blocks tuned"] if request.tune else []),
        text_title(run.text, request),
        f"computed on {run.compute.device}",
    ]
    st.caption(literal(" · ".join(map(str, facts))))
    if note := run.notes["note"]:
        st.caption(literal(note))
    sparsity = run.metrics.get("sparsity", {})
    requested = sparsity.get("requested", request.target_sparsity)
    counts = shown.outcome_counts()
    show_facts(
        (
            "Model sparsity",
            percent(sparsity["realised"], 2) if "realised" in sparsity else "not complete yet",
            f"{percent(requested, 2)} requested" if requested is not None else None,
        ),
        (
            "Layers done",
            f"{len(shown.layers):,}",
            f"of {len(shown.planned):,} in {counted(len(shown.blocks), 'block')}",
        ),
        (
            "Mean quality gain",
            "none yet" if shown.mean_gain is None else change(shown.mean_gain),
            LAYER_QUALITY_MEANINGS.get(shown.quality_measure, shown.quality_measure),
            "Layer quality as pruned minus that of uniform row sparsity, mean over layers, at exact counts.",
        ),
        (
            "Rates + / − / none",
            " / ".join(f"{counts[outcome]:,}" for outcome in ("positive", "negative", "none"))
            if shown.searched
            else "–",
            "layers" if shown.searched else "not searched",
            "Positive: rows that keep their output are pruned harder. Negative: rows that lose it are.",
        ),
    )


def choose_others(run_id: str, run: Run, entries: list[StoredRun]) -> list[Run]:
    """Choose the runs that are shown alongside the first."""
    others = {
        entry.id: entry.run
        for entry in entries
        if entry.run is not None and entry.id != run_id and entry.run.blocks
    }
    same = [
        key for key, other in others.items() if other.model.weights == run.model.weights and other.complete
    ]
    if texts := _texts(run):
        same = [key for key in same if texts & _texts(others[key])]
    chosen = st.multiselect(
        "Compare with",
        list(others),
        default=same[: MAX_COMPARED - 1],
        format_func=distinct({key: other.name for key, other in others.items()}).__getitem__,
        max_selections=MAX_COMPARED - 1,
        key=f"beside_{run_id}",
        help="For the views below. At first those of the same model, measured on the same text.",
    )
    return [others[key] for key in chosen]


def _texts(run: Run) -> set[str]:
    return {each["tokens_sha256"] for each in run.metrics.get("perplexities", [])}


def by_trim(run: Run, entries: list[StoredRun]) -> Run | None:
    """Return a run of TRIM on the same model and target, to compare with an optimal run."""
    complete = [entry.run for entry in entries if entry.run is not None and entry.run.complete]
    return next(
        (
            other
            for other in complete
            if method_of(other) == "trim"
            and other.model.weights == run.model.weights
            and other.request.target_sparsity == run.request.target_sparsity
        ),
        None,
    )


def views(run_id: str, run: Run, entries: list[StoredRun]) -> None:
    """Show a run: its heading, and the open part of the page."""
    shown = model_map(run)
    heading(run, shown)
    set_caption_settings(run.model.title, f"run {run.name}")
    file_name = re.sub(r"\W+", "-", run_id)
    part = choose_part(PARTS, "model_part")
    if part == OVERVIEW:
        overview(run_id, run, shown, entries, file_name)
    elif part == COSTS:
        layer_costs_part(run, shown, file_name)
        open_layer(run_id, shown, drawn="layers" in run.diagnoses)
    elif part == "Recover":
        recover_views(run)
    else:
        comparison_part(part, run, shown, choose_others(run_id, run, entries), file_name)


def overview(run_id: str, run: Run, shown: ModelMap, entries: list[StoredRun], file_name: str) -> None:
    """Draw the maps of a run."""
    shown = experts_choice(shown)
    above, below = st.columns(2), st.columns(2)
    more = {}
    if has_sensitivities(run):
        more["map_gini"] = sensitivity_variants(run, by_trim(run, entries))
    for column, key in zip((*above, *below), MAPS, strict=True):
        with column:
            map_card(key, shown, file_name, more.get(key))
    if shown.changed:
        with st.columns(2)[0]:
            change_card(shown, file_name)
    if shown.families:
        with st.columns(2)[0]:
            experts_card(shown, file_name)
    open_layer(run_id, shown, drawn=True)


def comparison_part(part: str, run: Run, shown: ModelMap, others: list[Run], file_name: str) -> None:
    """Draw a part of the page that compares the run with others."""
    if part == "Perplexity":
        perplexity_part(run, shown, others, file_name)
    elif part == "Text":
        recovered = [recovery for recovery in recoveries_of(run) if recovery.has_model]
        continue_prompt_views([run, *others], recovered)
    elif part == "Errors by block":
        diagnosis(
            run,
            "blocks",
            "Where does error build up?",
            block_errors.COST,
            lambda _: block_errors.block_errors_card([run, *others], file_name),
            functools.partial(text_options, run, "blocks"),
        )
    else:

        def show(measured: TokenDiagnosis) -> None:
            read = [(each.name, each.diagnoses["tokens"]) for each in others if "tokens" in each.diagnoses]
            tokens.tokens_views([(run.name, measured), *read], file_name)

        options = functools.partial(text_options, run, "tokens")
        diagnosis(run, "tokens", "Which tokens suffer?", tokens.COST, show, options)


def perplexity_part(run: Run, shown: ModelMap, others: list[Run], file_name: str) -> None:
    """Draw the perplexities and settings of the runs."""
    runs, maps = [run], []
    for other in others:
        with guarded(f"{literal(other.name)}: "):
            maps.append(model_map(other))
            runs.append(other)
    recovered = [recovery for each in runs for recovery in recoveries_of(each)]
    left, right = st.columns(2)
    with left:
        perplexity_card(runs, recovered, file_name)
    with right:
        outcome_card([shown, *maps], file_name)
    if run.request.solves and len(runs) > 1:
        with left, guarded():
            agreement_card([agreement_map(run, other) for other in runs[1:]], file_name)


st.title("How does a whole model take to pruning?")
st.markdown(
    "Each cell of a map is one layer: blocks from left to right, layer types from top to bottom. Click one to open it."
)
entries = [entry for entry in STORE.runs() if entry.run is None or entry.run.kind == "model"]
new_run(entries)
running = JOBS.running()
run_id = pick_run(choices(entries, running, JOBS), default_run(entries))
if run_id is None:
    st.info(
        "There is no run yet. Prune a model above; the demo takes about a minute.", icon=":material/info:"
    )
    st.stop()
entry = next((entry for entry in entries if entry.id == run_id), None)
with guarded():
    state = JOBS.state(run_id, entry.run if entry else None)
    if running is not None and running.id == run_id and not state.active:
        st.rerun()  # it has ended since, and is listed as running
    if (
        entry is None or entry.run is not None or state.active
    ):  # otherwise its folder is damaged, as is said below
        watch(run_id, state)
if entry is not None:
    with guarded():
        views(run_id, entry.opened(), entries)
