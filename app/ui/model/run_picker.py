"""The choice of the run on the page; the list and the address follow each other."""

from collections.abc import Sequence

import streamlit as st

from app.services.jobs.manager import RunJobs
from app.services.jobs.records import JobRecord
from app.services.runs.store import StoredRun
from app.ui.common.text import distinct, literal
from diagnostics.format import counted
from trim.errors import RunError


def choices(entries: Sequence[StoredRun], running: JobRecord | None, jobs: RunJobs) -> dict[str, str]:
    """List all runs of whole models by id, first the one that is `running`, even before it has a folder."""
    stored = {entry.id for entry in entries}
    listed = {}
    if running is not None and running.kind == "prune":
        listed[running.id] = f"{running.title} · running"
    for requested in (st.session_state.get("started_run"), st.query_params.get("run")):
        if requested and requested not in stored and (running is None or requested != running.id):
            listed |= _failed(requested, jobs)
    return listed | {entry.id: _label(entry) for entry in entries if entry.id not in listed}


def _failed(run_id: str, jobs: RunJobs) -> dict[str, str]:
    """Return a run that was started but has no folder, if it is one."""
    try:
        record = jobs.record(run_id)
        complete = jobs.command_state(run_id).status == "complete"
    except RunError:
        return {}
    if record is None or record.kind != "prune" or complete:  # its run was deleted since
        return {}
    return {run_id: f"{record.title} · {'cancelled' if record.cancelled else 'failed'}"}


def _label(entry: StoredRun) -> str:
    if entry.run is None:
        return f"{entry.id} · cannot be read"
    if entry.shipped:
        return f"{entry.run.name} · came with the app"
    if not entry.run.complete:
        return f"{entry.run.name} · {counted(len(entry.run.blocks), 'block')}"
    return f"{entry.run.name} · {entry.run.created[:10]}"


def pick_run(listed: dict[str, str], default: str | None) -> str | None:
    """Return the id of the run in the address, or else `default`; choosing another changes the address.

    None: there is no run.
    """
    labels = distinct(listed)
    requested = st.session_state.pop("started_run", None) or st.query_params.get("run")
    if requested is not None and requested not in labels:
        st.warning(
            f"There is no run {literal(requested[:60])} of a whole model here; it may have been deleted.",
            icon=":material/link_off:",
        )
    if not labels:
        return None
    if requested not in labels:
        requested = default if default in labels else next(iter(labels))
    if st.query_params.get("run") != requested:
        st.query_params["run"] = requested
    st.session_state["run_shown"] = requested

    def chosen() -> None:
        # The browser may still send a label that no run has any more, of a run that has just ended.
        if st.session_state["run_shown"] in labels:
            st.query_params["run"] = st.session_state["run_shown"]

    return st.selectbox(
        "Run", list(labels), format_func=labels.__getitem__, key="run_shown", on_change=chosen
    )
