"""The seminar on pages: the session's role, the presenter's code, running jobs, and the layers open to readers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.services.jobs.manager import JOBS
from app.services.server.access import MAX_CODE_CHARACTERS, SEMINAR
from app.ui.common.guard import errors_shown
from app.ui.common.present import link, presenting
from app.ui.common.text import literal
from app.ui.common.waiting import NothingToShow, laboratory

if TYPE_CHECKING:  # it computes, and imports torch
    from app.services.layer.study import Study

QUEUE_SECONDS = 3.0  # between updates of the list of running jobs


def _session() -> str | None:
    context = get_script_run_ctx(suppress_warning=True)
    return None if context is None else context.session_id


SEMINAR.who = _session


def presenter_only(what: str) -> bool:
    """Return whether the session may use the next part of the page; tell a reader what the part is for.

    Args:
        what: the action, as the subject of a sentence: "Pruning a model".
    """
    if SEMINAR.may():
        return True
    st.caption(f":material/lock: {what} needs the presenter's code (in the side bar).")
    return False


def seminar_bar() -> None:
    """Show the presenter's code and the running jobs in the side bar of a seminar; in presenter mode the code."""
    if not SEMINAR.on:
        return
    if presenting():  # which hides the side bar
        if not SEMINAR.may():
            _unlock()
        return
    with st.sidebar.container(border=True, key="seminar"):
        if SEMINAR.may():
            st.markdown(":material/co_present: **You are the presenter**")
            st.button("Become a reader again", icon=":material/lock:", key="lock", on_click=SEMINAR.lock)
        else:
            st.markdown(":material/groups: **Seminar**")
            st.caption("Stored runs and all pages are open to you; computing is the presenter's.")
            _unlock()
        if JOBS.running() is not None or laboratory().unfinished():
            st.fragment(_queue, run_every=QUEUE_SECONDS)()
        else:
            _queue()


def _unlock() -> None:
    with (
        st.expander("I am the presenter", icon=":material/key:"),
        st.form("presenter", border=False, clear_on_submit=True),
    ):
        given = st.text_input(
            "Presenter's code", type="password", max_chars=MAX_CODE_CHARACTERS, key="presenter_code"
        )
        if st.form_submit_button("Unlock", icon=":material/lock_open:"):
            with errors_shown():
                SEMINAR.unlock(given)
                st.rerun()


def _queue() -> None:
    lines = [f"run “{running.title}”"] if (running := JOBS.running()) is not None else []
    lines += [f"{name}: {job.progress}" for name, job in laboratory().unfinished()]
    if not lines:
        st.caption(":material/hourglass_empty: Nothing is being computed.")
        return
    st.caption(f":material/hourglass_top: Being computed: {literal(lines[0])}")
    for position, line in enumerate(lines[1:], 1):
        st.caption(f"{position} waiting: {literal(line)}")


def open_study() -> Study:
    """Let a reader choose a layer that the presenter has open.

    Raises:
        NothingToShow: no layer is open; the page links to stored layers.
    """
    studies = {str(study.key): study for study in laboratory().open_studies()}
    if not studies:
        st.title("Which layer?")
        st.info(
            "No layer is open on this server yet. As soon as the presenter opens one, it can be explored here; until "
            "then, every layer of every stored run is open to you.",
            icon=":material/groups:",
        )
        link("model", "To the layers of stored runs", "grid_on")
        raise NothingToShow
    chosen = st.sidebar.selectbox(
        "Layer that the presenter has open",
        list(studies),
        format_func=partial(_named, studies),
        key="open_study",
    )
    st.sidebar.caption("Move the target as you like; other layers and options are the presenter's.")
    return studies[chosen]


def _named(studies: dict[str, Study], key: str) -> str:
    study = studies[key]
    return f"{study.key.layer}, {study.origin.model.title}, {study.key.score}"
