"""The form that starts a run of a whole model: every method and option of the command line, and its command."""

from collections.abc import Iterable

import streamlit as st

import trim
from app.services.jobs.manager import JOBS
from app.services.runs.commands import arguments, format_command
from app.services.runs.estimate import estimated_seconds
from app.services.runs.store import StoredRun
from app.services.server.access import SEMINAR
from app.ui.common.choose import DTYPES, model_box, text_box, upload_text
from app.ui.common.guard import errors_shown
from app.ui.common.option_fields import option_field
from app.ui.common.text import distinct, literal
from app.ui.common.waiting import laboratory, result_or_progress
from app.ui.model.prefill import BUDGET_FILE, P, fill_as_published
from trim.methods.choices import BUDGETS
from trim.runs.method_settings import BUDGET_METHODS, OPTIMAL, MethodSettings
from trim.runs.options import idle_options, make_settings, options
from trim.runs.settings import SEARCH, TEXT, PruneSettings

MEASURE_WINDOWS, MEASURE_LENGTH = 16, 512
# Less text than the command line's default, so that a run on two cores takes minutes.
FIRST = {"target": 0.7, "windows": 16, "length": 256}
# Options that the form always shows; the others are under "All options", by group.
ABOVE = ("model", "target", "allocation", "budget", "score", "corpus", "windows", "length", "refit")
OF_METHODS = (BUDGET_METHODS, OPTIMAL)  # shown if the chosen methods use them


@st.fragment
def new_run_form(devices: list[str], runs: list[StoredRun]) -> None:
    """Show the form; the page then shows the started run."""
    st.button(
        "Fill in as published",
        icon=":material/history_edu:",
        key=f"{P}as_published",
        on_click=fill_as_published,
        help="The options of the TRIM authors' run: 256 windows of 2,048 tokens of C4, of each the input vector of the "
        "last token. The command below names every option that is not the default.",
    )
    try:
        settings, title, measure, is_found = _fields(devices, runs)
    except trim.TrimError as error:
        st.error(literal(error), icon=":material/error:")
        return
    shown = format_command(settings, measure=measure, out="runs/NAME")
    st.code(shown, language="bash", wrap_lines=True)
    if (seconds := estimated_seconds(settings, runs)) is not None:
        st.caption(
            f"The last run with this model, method and amount of text took {_duration(seconds)} on this machine."
        )
    if st.button(
        "Start", type="primary", icon=":material/play_arrow:", key=f"{P}start", disabled=not is_found
    ):
        with errors_shown():
            run_id = JOBS.prune(arguments(settings), title, measure)
            st.session_state.update(started_run=run_id, fold_new_run=True)
            st.rerun()


def _fields(
    devices: list[str], runs: list[StoredRun]
) -> tuple[PruneSettings, str, tuple[int, int] | None, bool]:
    """Show the fields.

    Returns:
        The settings, the run's name, windows and tokens of a perplexity to measure, and whether there is such a model.
    """
    chosen: dict[str, object] = {}
    first = st.columns(3)
    with first[0]:
        chosen["model"] = (model_box(f"{P}model") or "demo").strip()
    with first[1]:
        chosen["target"] = _field("target")
    title = first[2].text_input("Name", max_chars=80, key=f"{P}name", placeholder="made from the settings")
    second = st.columns(3)
    with second[0]:
        chosen["allocation"] = _field("allocation")
    with second[1]:
        budget = _field("budget", [*BUDGETS, BUDGET_FILE])
    with second[2]:
        chosen["score"] = _field("score")
    third = st.columns(3)
    with third[0]:
        chosen["corpus"] = (text_box(f"{P}corpus") or "demo").strip()
    for column, name in zip(third[1:], ("windows", "length"), strict=True):
        with column:
            chosen[name] = _field(name)
    is_found = _model_facts(str(chosen["model"]))
    chosen["budget"] = _budget_file(runs) if budget == BUDGET_FILE else budget
    methods = {"allocation": chosen["allocation"], "budget": chosen["budget"]}
    chosen |= _method_fields(make_settings(MethodSettings, methods))
    chosen["refit"] = _field("refit")
    with st.expander("All options", icon=":material/tune:"):
        chosen |= _other_fields(devices)
    if chosen.get("pattern"):
        chosen["target"] = None  # the pattern sets it
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
    settings = make_settings(PruneSettings, chosen)
    return settings, title.strip() or settings.name, measure, is_found


def _model_facts(source: str) -> bool:
    """Describe before a run what can be pruned in a model; all layers of the demo can be pruned.

    Returns:
        Whether it may be pruned: no if it was not found or is refused, which the page then says.
    """
    if source == "demo" or not SEMINAR.may():
        return True
    job = laboratory().description(source)
    found = result_or_progress(job, source, "Looking at the model; no weights are read")
    if found is None:
        return not job.done
    st.caption(literal(f"{found.title}: {found.architecture}, {found.layers_text}"))
    return True


def _budget_file(runs: list[StoredRun]) -> str:
    with_budgets = {entry.id: entry for entry in runs if entry.run is not None and entry.run.budgets}
    if not with_budgets:
        raise trim.SettingsError(
            "There is no run yet whose budgets could be taken; choose another budget method."
        )
    chosen = st.selectbox(
        "The run whose budgets are taken",
        list(with_budgets),
        format_func=distinct({key: entry.opened().name for key, entry in with_budgets.items()}).__getitem__,
        key=f"{P}budget_run",
    )
    return str((with_budgets[chosen].path / "budgets.json").resolve())


def _field(name: str, names: list[str] | None = None) -> object:
    """Show the widget of an option by its name."""
    return option_field(options(PruneSettings)[name], f"{P}{name}", first=FIRST.get(name), names=names)


def _method_fields(chosen: MethodSettings) -> dict[str, object]:
    """Show the options of the chosen methods that have an effect."""
    more: dict[str, object] = {}
    columns = None
    for name, each in options(MethodSettings).items():
        if each.group not in OF_METHODS or name in idle_options(chosen):
            continue
        if columns is None:
            columns = iter(st.columns(4))
        with next(columns):
            more[name] = _field(name)
        chosen = make_settings(MethodSettings, {**vars(chosen), name: more[name]})
    return more


def _other_fields(devices: list[str]) -> dict[str, object]:
    """Draw every other option, in three columns."""
    groups: dict[str, list[str]] = {}
    for name, each in options(PruneSettings).items():
        if name not in ABOVE and each.group not in OF_METHODS:
            groups.setdefault(each.group, []).append(name)
    text, search = groups.pop(TEXT), groups.pop(SEARCH)
    names = {"device": devices, "dtype": list(DTYPES[1:])}
    more: dict[str, object] = {}

    def fields(title: str, chosen: Iterable[str]) -> None:
        st.markdown(f"**{title}**")
        for name in chosen:
            more[name] = _field(name, names.get(name))

    left, middle, right = st.columns(3)
    with left:
        fields("Calibration text", text)
        upload_text(f"{P}corpus")
    with middle:
        fields("TRIM's search", search)
    with right:
        for title, others in groups.items():
            fields(title.capitalize(), others)
    return more


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
