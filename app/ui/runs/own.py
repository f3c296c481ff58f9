"""Actions on the user's own run or recovery: rename it, export it as a file, delete it."""

import mimetypes
import threading
from collections.abc import Callable, Mapping

import streamlit as st

from app.services.runs.facts import RunFacts
from app.services.runs.files import delete, rename
from app.services.runs.store import StoredRun
from app.ui.common.guard import errors_shown, guarded
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from trim.names import format_bytes
from trim.runs.shapes import MAX_NAME_LENGTH, MAX_NOTE_LENGTH

_MAKING = threading.Lock()  # one file at a time for all readers
# Files by content: suffix, and the function that makes the file.
Makers = Mapping[str, tuple[str, Callable[[], bytes]]]


def show_entry(entry: StoredRun, facts: RunFacts, show: Callable[[], None] | None) -> None:
    """Show everything below the table; `show` draws a run or a recovery, None: it cannot be read."""
    st.subheader(literal(facts.name))
    if facts.note:
        st.markdown(literal(facts.note))
    if show is None:
        st.error(literal(facts.problem), icon=":material/broken_image:")
    else:
        with guarded():
            show()
    delete_it(entry, facts)


def name_and_note(entry: StoredRun, facts: RunFacts) -> None:
    """Show fields to change the name and note."""
    if entry.shipped:
        st.info(
            "It came with the app and stays as it is. Export and import it to have a copy of your own.",
            icon=":material/lock:",
        )
        return
    if not presenter_only("Changing its name"):
        return
    with st.form(f"names-{facts.id}"):
        name = st.text_input("Name", facts.name, max_chars=MAX_NAME_LENGTH, key=f"name-{facts.id}")
        note = st.text_area("Note", facts.note, max_chars=MAX_NOTE_LENGTH, height=96, key=f"note-{facts.id}")
        if st.form_submit_button("Save name and note", icon=":material/edit:"):
            with errors_shown():
                rename(entry, name or facts.id, note)
                st.rerun()


def offer_files(facts: RunFacts, makers: Makers, more: Callable[[str], None] | None = None) -> None:
    """Offer files that are made on demand, which takes a moment.

    Args:
        facts: the run or recovery.
        makers: the files.
        more: shows further controls of the chosen file, whose suffix it receives.
    """
    with st.container(border=True):
        wanted = st.selectbox("Export", list(makers), key="export_kind")
        ending, make = makers[wanted]
        file_name = f"{facts.id}.{ending}"
        if more is not None:
            more(ending)
        if st.button("Make the file", icon=":material/build:", key="make_file"):
            with errors_shown(), st.spinner("Making the file"), _MAKING:
                st.session_state["made_file"] = {(facts.id, wanted): make()}  # one for each session
        content = st.session_state.get("made_file", {}).get((facts.id, wanted))
        if content is not None:
            st.download_button(
                f"Save {file_name} ({format_bytes(len(content))})".replace(".", "\\."),
                content,
                file_name,
                mimetypes.guess_type(file_name)[0],
                on_click="ignore",
                type="primary",
                icon=":material/download:",
            )


def delete_it(entry: StoredRun, facts: RunFacts) -> None:
    """Show a button that deletes the entry after a confirmation."""
    if entry.shipped or not presenter_only("Deleting it"):
        return
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(
            f"Remove **{literal(facts.name)}** ({format_bytes(facts.size_bytes)}) from the disk? This cannot be undone."
        )
        if st.button("Delete it", type="primary", key="delete"):
            with errors_shown():
                delete(entry)
                st.session_state["deleted"] = facts.name
                st.rerun()
