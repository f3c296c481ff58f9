"""A widget for an option of a run, made from its declaration in `PruneSettings`."""

import streamlit as st

from app.ui.common.search_options import as_rates, as_text
from trim.runs.options import Option

AUTOMATIC = "automatic"  # in lists, of an option that may be left open


def option_field(each: Option, key: str, *, first: object = None, names: list[str] | None = None) -> object:
    """Show the widget of an option, and return the value that is chosen in it.

    Args:
        each: the option.
        key: the widget's key.
        first: what it holds at first instead of the option's default.
        names: what can be chosen, where that is not known to the option.

    Raises:
        SettingsError: what was typed is not such a value.
    """
    shown = to_widget(each, each.default if first is None else first, listed=names is not None)
    if each.kind is bool:
        return st.checkbox(each.label, bool(shown), key=key, help=each.sentence)
    listed = list(names or each.choices)
    if listed:
        listed = [AUTOMATIC, *listed] if each.default is None else listed
        place = listed.index(shown) if isinstance(shown, str) and shown in listed else 0
        chosen = st.selectbox(each.label, listed, place, key=key, help=each.sentence)
        return None if chosen == AUTOMATIC else chosen
    if each.several or each.kind is str:
        text = st.text_input(
            each.label, str(shown), max_chars=500, key=key, placeholder=each.unset or None, help=each.sentence
        )
        return _typed(each, text.strip())
    return _number(each, shown, key)


def to_widget(each: Option, value: object, *, listed: bool = False) -> str | bool | int | float | None:
    """Return a value as its option's widget holds it; `listed` where the names to choose come from elsewhere."""
    if isinstance(value, tuple):
        return as_text(value) if each.kind is float else " ".join(value)
    if value is None:
        return AUTOMATIC if listed or each.choices else "" if each.kind is str else None
    if each.unit == "%" and isinstance(value, float):
        return round(100 * value, 6)
    return value if isinstance(value, str | bool | int | float) else str(value)


def _typed(each: Option, text: str) -> object:
    if not each.several:
        return text or None
    if each.kind is float:
        return as_rates(text)
    return tuple(text.split()) or each.default


def _number(each: Option, shown: object, key: str) -> int | float | None:
    first = shown if isinstance(shown, int | float) else None
    label = f"{each.label} (%)" if each.unit == "%" else each.label
    low, high = each.limits or (None, None)
    if each.kind is int:
        whole = st.number_input(
            label,
            None if low is None else int(low),
            None if high is None else int(high),
            None if first is None else int(first),
            int(each.step),
            key=key,
            placeholder=each.unset or None,
            help=each.sentence,
        )
        return None if whole is None else int(whole)
    real: float | None = st.number_input(
        label,
        None if low is None else float(low),
        None if high is None else float(high),
        None if first is None else float(first),
        float(each.step),
        format="%g",
        key=key,
        placeholder=each.unset or None,
        help=each.sentence,
    )
    return real / 100 if real is not None and each.unit == "%" else real
