"""The parts of a lesson, and their layout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import streamlit as st

from app.ui.common.cards import View, card

V = TypeVar("V")


@dataclass(frozen=True)
class Check:
    """A question to oneself. The answer is hidden until one is chosen; `right` is its place in `answers`."""

    question: str
    answers: tuple[str, ...]
    right: int
    reason: str


@dataclass(frozen=True)
class Step(Generic[V]):
    """One lesson, whose control has a value V.

    Attributes:
        name: a word for the list of steps.
        title: the question that it answers.
        words: two or three sentences, Markdown.
        control: draws the one control and returns its value.
        view: the picture for a value of the control; None: there is nothing to draw, and the control has said why.
        notice: what to try, and what to look at.
        check: the question at the end.
        below: draws what is under the picture, for a value of the control.
    """

    name: str
    title: str
    words: str
    control: Callable[[], V]
    view: Callable[[V], View | None]
    notice: str
    check: Check
    below: Callable[[V], None] | None = None


def show(step: Step[V]) -> None:
    """Show the words and the control on the left, the picture on the right, the question below."""
    words, picture = st.columns([2, 3], gap="large")
    with words:
        st.markdown(step.words)
        value = step.control()
        st.markdown(f"**What to notice.** {step.notice}")
    view = step.view(value)
    if view is not None:
        with picture:
            card(f"learn_{step.name.lower()}", {step.title: lambda: view}, file_name="learn")
    if step.below is not None:
        step.below(value)
    _ask(step)


def _ask(step: Step) -> None:
    check = step.check
    with st.container(border=True, key="self-check"):
        answer = st.radio(
            f"**Check yourself.** {check.question}",
            range(len(check.answers)),
            index=None,
            format_func=check.answers.__getitem__,
            key=f"check_{step.name.lower()}",
        )
        if answer is None:
            st.caption("Choose an answer to see the reason.")
        elif answer == check.right:
            st.success(f"Yes. {check.reason}", icon=":material/check_circle:")
        else:
            st.info(f"Not quite. {check.reason}", icon=":material/lightbulb:")
