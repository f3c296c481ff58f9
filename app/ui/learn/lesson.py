"""The component that draws lessons in the browser: one picture on the reader's page, or all as slides."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import streamlit as st
from streamlit.components.v2.bidi_component import ComponentResult

from app.ui.common.studio import theme
from app.ui.learn.step import Picture, Step
from diagnostics.figures.theme import FONT, METHOD_STYLES, PALETTES

Mode = Literal["page", "slides", "room"]

_FOLDER = Path(__file__).parent
_component = st.components.v2.component("trim_lesson", js=(_FOLDER / "lesson.js").read_text(encoding="utf-8"))


@functools.cache
def _style() -> str:
    return (_FOLDER / "lesson.css").read_text()


def _palettes() -> dict[str, dict[str, str]]:
    """Return the colours of each theme by the names that drawings use."""
    methods = {name: style.colour for name, style in METHOD_STYLES.items()} | {"font": FONT}
    names = ("ink", "muted", "faint", "grid", "surface", "gain", "loss")
    return {
        theme: {name: getattr(palette, name) for name in names} | {"band": palette.band[0]} | methods
        for theme, palette in PALETTES.items()
    }


@functools.lru_cache(maxsize=32)
def _packed(mode: Mode, steps: tuple[tuple[int, Step, Picture | None], ...]) -> tuple[str, str]:
    """Return the steps as JSON, made once for all readers, and a hash of them."""
    content = json.dumps([_step(mode, *each) for each in steps], ensure_ascii=False, separators=(",", ":"))
    return content, hashlib.sha256(content.encode()).hexdigest()[:16]


def _step(mode: Mode, number: int, step: Step, picture: Picture | None) -> dict[str, object]:
    packed: dict[str, object] = {
        "number": number,
        "title": step.title,
        "say": step.say,
        "notes": step.notes if mode == "slides" else "",
        "check": asdict(step.check),
    }
    if picture is None:
        return packed | {"empty": step.empty.replace("`", ""), "missing": ""}
    return packed | {
        "drawing": picture.drawing.to_json(),
        "control": None if picture.control is None else asdict(picture.control),
        "findings": list(picture.findings),
        "alt": picture.alt,
        "missing": picture.missing,
    }


def lesson(
    mode: Mode,
    steps: Sequence[tuple[int, Step, Picture | None]],
    *,
    step: int = 0,
    frame: int = 0,
    reveal: int = 0,
    seminar: str = "",
    key: str,
) -> ComponentResult:
    """Draw steps; return the browser's request.

    Requests are "leave" with the current step, "around", and "saved" with the frame to save.

    Args:
        mode: the picture of one step on a page; slides under the presenter's keys; slides that follow the room.
        steps: the steps, each with its number and its picture.
        step: index of the first step to show.
        frame: the frame of that step.
        reveal: 0: the step's picture, 1: its question, 2: the answer.
        seminar: the state of the seminar for the slides.
        key: the component's key.
    """
    content, version = _packed(mode, tuple(steps))
    return _component(
        data={
            "mode": mode,
            "version": version,
            "steps": content,
            "step": step,
            "frame": frame,
            "reveal": reveal,
            "theme": theme(),
            "palettes": _palettes(),
            "style": _style(),
            "seminar": seminar,
        },
        key=key,
        on_leave_change=lambda: None,
        on_around_change=lambda: None,
        on_saved_change=lambda: None,
    )
