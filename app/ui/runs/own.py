"""Actions on the user's own run or recovery: rename it, export it as a file, delete it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

from app.services.runs.facts import RunFacts
from app.services.runs.files import delete, rename
from app.services.runs.store import StoredRun
from app.ui.common.guard import guarded
from app.ui.common.seminar import presenter_only
from app.ui.common.text import plain
from trim import TrimError
from trim.names import format_bytes
from trim.runs.shapes import MAX_NAME_LENGTH, MAX_NOTE_LENGTH

_MAKING = threading.Lock()  # one file at a time for all readers
# Files by content: suffix, MIME type, and the function that makes the file.
Makers = Mapping[str, tuple[str, str, Callable[[], bytes]]]


def show_entry(entry: StoredRun, facts: RunFacts, show: Callable[[], None] | None) -> None:
    """Show everything below the table; `show` draws a run or a recovery, None: it cannot be read."""
    st.subheader(plain(facts.name))
    if facts.note:
        st.markdown(plain(facts.note))
    if show is None:
        st.error(plain(facts.problem), icon=":material/broken_image:")
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
            try:
                rename(entry, name or facts.id, note)
            except TrimError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.rerun()


@dataclass(frozen=True)
class Prepared:
    """A file made for a reader; each session keeps one at a time."""

    run_id: str
    kind: str
    file_name: str
    mime: str
    content: bytes


def offer_files(facts: RunFacts, makers: Makers, more: Callable[[str], None] | None = None) -> None:
    """Offer files that are made on demand, which takes a moment.

    Args:
        facts: the run or recovery.
        makers: the files.
        more: shows further controls of the chosen file, whose suffix it receives.
    """
    with st.container(border=True):
        wanted = st.selectbox("Export", list(makers), key="export_kind")
        ending, mime, make = makers[wanted]
        if more is not None:
            more(ending)
        if st.button("Make the file", icon=":material/build:", key="make_file"):
            try:
                with st.spinner("Making the file"), _MAKING:
                    content = make()
            except TrimError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.session_state["prepared"] = Prepared(
                    facts.id, wanted, f"{facts.id}.{ending}", mime, content
                )
        ready: Prepared | None = st.session_state.get("prepared")
        if ready is not None and (ready.run_id, ready.kind) == (facts.id, wanted):
            st.download_button(
                f"Save {ready.file_name} ({format_bytes(len(ready.content))})".replace(".", "\\."),
                ready.content,
                ready.file_name,
                ready.mime,
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
            f"Remove **{plain(facts.name)}** ({format_bytes(facts.size_bytes)}) from the disk? This cannot be undone."
        )
        if st.button("Delete it", type="primary", key="delete"):
            try:
                delete(entry)
            except TrimError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.session_state["deleted"] = facts.name
                st.rerun()
