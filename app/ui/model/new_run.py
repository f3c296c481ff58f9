"""The form that starts a run of a whole model: every method and option of the command line, and its command."""

from dataclasses import dataclass
from typing import TypedDict

import streamlit as st

import trim
from app.services.jobs.manager import JOBS
from app.services.runs.commands import arguments, in_words
from app.services.runs.store import StoredRun
from app.ui.common.choose import DTYPES, bring_text, model_box, text_box
from app.ui.common.search_options import as_rates, search_fields
from app.ui.common.text import plain
from app.ui.model.prefill import BUDGET_FILE, P
from trim.methods.choices import ALLOCATIONS, ALPHA_FITS, BUDGETS, ROW_WEIGHTS
from trim.runs.settings import PruneSettings

WINDOWS, LENGTH, MEASURE_WINDOWS, MEASURE_LENGTH = 16, 256, 16, 512
ALLOCATION_NAMES = [
    PruneSettings.allocation,
    *(name for name in ALLOCATIONS if name != PruneSettings.allocation),
]
ALLOCATION_HELP = """Who sets the sparsity of each row inside a layer.
- `trim`: searched row by row, as published
- `uniform`: every row alike, plain Wanda
- `optimal`: the least loss that rows can be balanced to
- `variant`: Wanda's variant, each row until half of its score is gone"""
BUDGET_HELP = """Who sets the sparsity of each layer, so that the model reaches its target.
- `uniform`: every layer alike
- `owl`: layers with more outliers keep more (OWL)
- `alphapruning`: by the tail of the layer's spectrum (AlphaPruning)
- `optimal`: by what the loss is sensitive to"""


@dataclass(frozen=True)
class NewRun:
    """What the form asks for."""

    settings: PruneSettings
    title: str
    measure: tuple[int, int] | None


class MoreSettings(TypedDict, total=False):
    """Those of `PruneSettings` that the form does not always ask for."""

    budget: str
    pattern: str | None
    vectors_per_sequence: int
    seed: int
    recalculate_inputs: bool
    refit: bool
    layers: tuple[str, ...]
    learning_rates: tuple[float, ...]
    negative_learning_rates: tuple[float, ...]
    iterations: int
    layer_quality: str
    row_quality: str
    max_row_sparsity: float | None
    row_weights: str
    sensitivity_windows: int
    second_pass: bool
    owl_width: float
    owl_multiple: float
    alpha_width: float
    alpha_fit: str
    device: str | None
    dtype: str | None
    batch: int | None


@st.fragment
def new_run_form(devices: list[str], runs: list[StoredRun]) -> None:
    """The form; a started run is on the page next."""
    try:
        chosen = _fields(devices, runs)
    except trim.TrimError as error:
        st.error(plain(error), icon=":material/error:")
        return
    shown = in_words(chosen.settings, measure=chosen.measure, out="runs/NAME")
    st.code(shown, language="bash", wrap_lines=True)
    if (seconds := _seconds_of_the_like(chosen.settings, runs)) is not None:
        st.caption(
            f"The last run with this model, method and amount of text took {_duration(seconds)} on this machine."
        )
    if not st.button("Start", type="primary", icon=":material/play_arrow:", key=f"{P}start"):
        return
    try:
        run_id = JOBS.start(arguments(chosen.settings), chosen.title, chosen.measure)
    except (trim.TrimError, OSError) as error:
        st.error(plain(error), icon=":material/error:")
        return
    st.session_state["started_run"] = run_id
    st.rerun()


def _fields(devices: list[str], runs: list[StoredRun]) -> NewRun:
    first = st.columns(3)
    with first[0]:
        model = (model_box(f"{P}model") or "demo").strip()
    with first[1]:
        percent = st.number_input(
            "Model sparsity target (%)",
            1.0,
            99.0,
            70.0,
            1.0,
            format="%g",
            key=f"{P}target",
            help="Share of the weights of all chosen layers that is pruned.",
        )
    title = first[2].text_input("Name", max_chars=80, key=f"{P}name", placeholder="made from the settings")
    second = st.columns(3)
    allocation = second[0].selectbox(
        "Allocation: rows", ALLOCATION_NAMES, key=f"{P}allocation", help=ALLOCATION_HELP
    )
    budget = second[1].selectbox(
        "Budget: layers", [*BUDGETS, BUDGET_FILE], key=f"{P}budget", help=BUDGET_HELP
    )
    score = second[2].selectbox(
        "Score: weights",
        list(trim.SCORES),
        key=f"{P}score",
        help="Importance of a weight. Wanda: its size times the norm of the feature it reads. Magnitude: its size.",
    )
    third = st.columns(3)
    with third[0]:
        corpus = (text_box(f"{P}text") or "demo").strip()
    windows = third[1].number_input("Windows (sequences)", 1, 4096, WINDOWS, key=f"{P}windows")
    length = third[2].number_input("Tokens per window", 2, 32768, LENGTH, key=f"{P}length")
    more: MoreSettings = {}
    if budget == BUDGET_FILE:
        more["budget"] = _budget_file(runs)
    elif budget != "uniform":
        more["budget"] = budget
    more |= _method_fields(allocation, budget)
    more["refit"] = st.checkbox(
        "Refit the weights that stay",
        key=f"{P}refit",
        help="Least squares on the text: what stays of a row is changed so that its output comes nearest to the dense "
        "model's. Loses much less, above all from 60% on; masks are then not all there is to the pruned model.",
    )
    with st.expander("All options", icon=":material/tune:"):
        more |= _other_fields(devices)
    measured = st.checkbox(
        "Measure perplexity afterwards, of the pruned and of the dense model", value=True, key=f"{P}measured"
    )
    measure = None
    if measured:
        columns = st.columns(3)
        measure = (
            columns[0].number_input("Windows for perplexity", 1, 4096, MEASURE_WINDOWS, key=f"{P}m_windows"),
            columns[1].number_input("Tokens in each", 2, 32768, MEASURE_LENGTH, key=f"{P}m_length"),
        )
    settings = PruneSettings(
        model=model,
        target=None if more.get("pattern") else percent / 100,
        allocation=allocation,
        score=score,
        corpus=corpus,
        windows=windows,
        length=length,
        **more,
    )
    return NewRun(settings, title.strip() or settings.name, measure)


def _budget_file(runs: list[StoredRun]) -> str:
    known = {entry.id: entry for entry in runs if entry.run is not None and entry.run.budgets}
    if not known:
        raise trim.SettingsError(
            "There is no run yet whose budgets could be taken; choose another budget method."
        )
    chosen = st.selectbox(
        "The run whose budgets are taken",
        list(known),
        format_func=lambda key: known[key].opened().name,
        key=f"{P}budget_run",
    )
    return str((known[chosen].path / "budgets.json").resolve())


def _method_fields(allocation: str, budget: str) -> MoreSettings:
    """The parameters of the methods that are chosen."""
    more: MoreSettings = {}
    if budget in ("owl", "alphapruning") or "optimal" in (allocation, budget):
        columns = iter(st.columns(4))
    if budget == "owl":
        more["owl_width"] = next(columns).number_input(
            "OWL's λ", 0.001, 0.499, PruneSettings.owl_width, 0.01, format="%g", key=f"{P}owl_width"
        )
        more["owl_multiple"] = next(columns).number_input(
            "OWL's M: outliers are above M × mean",
            0.1,
            100.0,
            PruneSettings.owl_multiple,
            1.0,
            format="%g",
            key=f"{P}owl_multiple",
        )
    elif budget == "alphapruning":
        more["alpha_width"] = next(columns).number_input(
            "AlphaPruning's ε", 0.01, 0.99, PruneSettings.alpha_width, 0.1, format="%g", key=f"{P}alpha_width"
        )
        more["alpha_fit"] = next(columns).selectbox(
            "How a spectrum's tail is fitted", ALPHA_FITS, key=f"{P}alpha_fit"
        )
    if "optimal" in (allocation, budget):
        more["row_weights"] = next(columns).selectbox(
            "What an error in a row counts for",
            ROW_WEIGHTS,
            key=f"{P}row_weights",
            help="- `fisher`: what it costs the model's loss, from a few backward passes\n- `ones`: all rows alike",
        )
        more["sensitivity_windows"] = next(columns).number_input(
            "Windows for the sensitivity",
            1,
            4096,
            PruneSettings.sensitivity_windows,
            key=f"{P}sensitivity_windows",
        )
    if "optimal" in (allocation, budget) and more["row_weights"] == "fisher":
        more["second_pass"] = st.checkbox(
            "Second pass",
            key=f"{P}second_pass",
            help="Prune once, measure the sensitivity again in what is left, prune anew: pays at 80%, takes twice "
            "the time.",
        )
    return more


def _other_fields(devices: list[str]) -> MoreSettings:
    left, middle, right = st.columns(3)
    with left:
        st.markdown("**Text and layers**")
        bring_text(f"{P}text")
        pattern = st.text_input(
            "Pattern n:m, such as 2:4",
            key=f"{P}pattern",
            max_chars=20,
            placeholder="none",
            help="n zeros in every m weights. It sets the target itself and needs uniform allocation and budgets.",
        )
        layers = st.text_input(
            "Layers to prune",
            "*",
            key=f"{P}layers",
            max_chars=500,
            help="Names or shell patterns with blanks between, such as *.mlp.* 3.self_attn.q_proj; the others stay "
            "dense.",
        )
        recalculate = st.checkbox(
            "Recalculate inputs",
            key=f"{P}recalculate",
            help="Later layers of a block see what its earlier ones do after being pruned; about twice the time.",
        )
        vectors = st.number_input(
            "Input vectors kept per window", 1, 256, PruneSettings.vectors_per_sequence, key=f"{P}vectors"
        )
        seed = st.number_input("Seed", 0, 2**31 - 1, PruneSettings.seed, key=f"{P}seed")
    with middle:
        st.markdown("**TRIM's search**")
        search = search_fields(P)
    with right:
        st.markdown("**Rows and machine**")
        cap = st.number_input(
            "Largest row sparsity (%)",
            1,
            100,
            None,
            key=f"{P}cap",
            placeholder="95, or 99 where anything is optimal",
            help="No row loses more than this share of its weights.",
        )
        device = st.selectbox("Device", ["automatic", *devices], key=f"{P}device")
        dtype = st.selectbox("Number type", DTYPES, key=f"{P}dtype")
        batch = st.number_input(
            "Windows in one forward pass", 1, 4096, None, key=f"{P}batch", placeholder="chosen by itself"
        )
    return {
        "pattern": pattern.strip() or None,
        "layers": tuple(layers.split()) or ("*",),
        "recalculate_inputs": recalculate,
        "vectors_per_sequence": vectors,
        "seed": seed,
        "max_row_sparsity": None if cap is None else cap / 100,
        "device": None if device == "automatic" else device,
        "dtype": None if dtype == "automatic" else dtype,
        "batch": batch,
        "learning_rates": as_rates(search["learning_rates"]),
        "negative_learning_rates": as_rates(search["negative_learning_rates"]),
        "iterations": search["iterations"],
        "layer_quality": search["layer_quality"],
        "row_quality": search["row_quality"],
    }


def _seconds_of_the_like(settings: PruneSettings, runs: list[StoredRun]) -> float | None:
    """How long the newest run took that differs from this in nothing that takes time."""
    alike = (
        "model",
        "allocation",
        "budget",
        "pattern",
        "windows",
        "length",
        "recalculate_inputs",
        "refit",
        "device",
    )
    for entry in runs:
        if entry.shipped or entry.run is None or not entry.run.complete:
            continue
        if all(getattr(entry.run.request, name) == getattr(settings, name) for name in alike):
            return entry.run.metrics.get("seconds")
    return None


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
