"""The page of the store: every run and sweep, with its state and actions."""

import streamlit as st

from app.services.runs.facts import run_facts
from app.services.runs.importing import import_run
from app.services.runs.recoveries import recoveries, recovery_facts
from app.services.runs.store import STORE
from app.ui.common.address import show_refused
from app.ui.common.guard import errors_shown
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from app.ui.runs.details import show_run
from app.ui.runs.recovery import show_recovery
from app.ui.runs.sweeps import sweep_table
from app.ui.runs.table import choose_run
from trim.runs.listing import runs_folder


def import_box() -> None:
    """Show the upload of a run as a zip."""
    if not presenter_only("Importing a run"):
        return
    with st.popover("Import a run", icon=":material/upload:"):
        file = st.file_uploader("A run as a zip, at most 20 MB", ["zip"], key="import_file")
        st.caption(
            "A zip that Export below has made, here or on another machine. Every path and array in it is checked."
        )
        if st.button("Import", type="primary", disabled=file is None) and file is not None:
            present = {entry.id for entry in STORE.runs()}
            with errors_shown():
                with st.spinner("Checking every array"):
                    path = import_run(file, runs_folder(), present.__contains__, file.name)
                st.session_state.update(run_brought=path.name, search="", imported=path.name)
                st.rerun()


def report_last_action() -> None:
    """Report the last action once."""
    if name := st.session_state.pop("deleted", None):
        st.toast(f"{literal(name)} was deleted.", icon=":material/delete:")
    if run_id := st.session_state.pop("imported", None):
        st.toast(f"Imported as {literal(run_id)}.", icon=":material/check:")


st.title("What has been pruned here?")
st.markdown(
    "How far, by which method, and how did it go? A run keeps its settings, what every row lost and why; "
    "looking at one needs neither its model nor a GPU."
)
report_last_action()
entries = {entry.id: entry for entry in STORE.runs()}
trained = {entry.path.name: entry for entry in recoveries()}
import_box()
if STORE.shipped_problem:
    st.warning(literal(STORE.shipped_problem), icon=":material/inventory_2:")
if not entries and not trained:
    st.info(
        "No run here yet. Keep a layer from the Layer page, prune a model on the Model page, or import a run.",
        icon=":material/inventory_2:",
    )
else:
    lines = [recovery_facts(entry) for entry in trained.values()]
    lines += [run_facts(entry) for entry in entries.values()]
    chosen = choose_run(lines)
    if chosen is not None:
        facts = next(each for each in lines if each.id == chosen)
        if chosen in trained:
            show_recovery(trained[chosen], facts)
        else:
            show_run(entries[chosen], facts)
sweep_table(STORE.sweeps())
show_refused()
