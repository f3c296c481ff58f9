"""A widget for an option of a run, made from its declaration in `PruneSettings`."""

import streamlit as st

from app.ui.common.address import Bind
from trim.errors import SettingsError
from trim.runs.options import Option

AUTOMATIC = "automatic"  # the choice that leaves an option open


def option_field(each: Option, key: str, *, first: object = None, names: list[str] | None = None) -> object:
    """Show the widget of an option, and return the chosen value.

    Args:
        each: the option.
        key: the widget's key.
        first: the initial value, instead of the option's default.
        names: the choices, if the option does not know them.

    Raises:
        SettingsError: the typed text is not a valid value.
    """
    shown = option_widget(each, key, first=first, names=names)
    if names or each.choices:
        return None if shown == AUTOMATIC else shown
    if isinstance(shown, str):
        return _typed(each, shown.strip())
    return shown / 100 if isinstance(shown, float) and each.unit == "%" else shown


def option_widget(
    each: Option, key: str, *, first: object = None, names: list[str] | None = None, bind: Bind = None
) -> str | bool | int | float | None:
    """Show the widget of an option, and return its content; with `bind` the address holds it."""
    shown = to_widget(each, each.default if first is None else first, listed=names is not None)
    if each.kind is bool:
        return st.checkbox(each.label, bool(shown), key=key, help=each.sentence, bind=bind)
    listed = list(names or each.choices)
    if listed:
        listed = [AUTOMATIC, *listed] if each.default is None else listed
        index = listed.index(shown) if isinstance(shown, str) and shown in listed else 0
        return st.selectbox(each.label, listed, index, key=key, help=each.sentence, bind=bind)
    if each.several or each.kind is str:
        return st.text_input(
            each.label,
            str(shown),
            max_chars=500,
            key=key,
            placeholder=each.unset,
            help=each.sentence,
            bind=bind,
        )
    return _number(each, shown, key, bind)


def to_widget(each: Option, value: object, *, listed: bool = False) -> str | bool | int | float | None:
    """Convert a value to that of its option's widget; `listed`: the choices come from elsewhere."""
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


def _number(each: Option, shown: object, key: str, bind: Bind) -> int | float | None:
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
            placeholder=each.unset,
            help=each.sentence,
            bind=bind,
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
        placeholder=each.unset,
        help=each.sentence,
        bind=bind,
    )
    return real


def as_text(rates: tuple[float, ...]) -> str:
    """Format learning rates as typed text."""
    return ", ".join(f"{rate:g}" for rate in rates)


def as_rates(text: str) -> tuple[float, ...]:
    """Parse typed learning rates.

    Raises:
        SettingsError: one of them is not a number.
    """
    rates = []
    for part in filter(None, text.replace(";", ",").replace("−", "-").replace(" ", ",").split(",")):
        try:
            rates.append(float(part))
        except ValueError:
            raise SettingsError(
                f"Type learning rates as numbers with commas between them; “{part[:20]}” is not a number."
            ) from None
    return tuple(rates)
