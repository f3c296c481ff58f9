"""A pin: a second layer, target, score or text that stays in the charts; the address holds it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qsl, urlencode

import streamlit as st

import trim
from app.services.layer.keys import FIRST_LAYER, FIRST_TARGET_PERCENT, ModelKey, SampleKey, StudyKey
from app.services.layer.study import Outcome, Study
from app.services.server.access import SEMINAR
from app.ui.common.search_options import IN_ADDRESS, SearchOptions, default_options, settings
from app.ui.common.text import literal
from app.ui.common.waiting import laboratory, result_or_progress, study_in_memory

PARAMETER = "pin"
MAX_PIN_LENGTH = 2000
_SAMPLE = {
    "windows": (1, 4096),
    "length": (2, 32768),
    "vectors_per_sequence": (1, 256),
    "seed": (0, 2**31 - 1),
}


class PinError(ValueError):
    """Raised when the address asks for a pin that cannot exist."""


@dataclass(frozen=True)
class Pin:
    """A pin: a layer with its score and text, the target in percent, and the options of the search."""

    key: StudyKey
    percent: int
    options: SearchOptions

    def fields(self) -> dict[str, str]:
        """Return the fields by name."""
        model, sample = self.key.model, dataclasses.asdict(self.key.sample)
        return {
            "target": str(self.percent),
            "layer": self.key.layer,
            "score": self.key.score,
            "model": model.source,
            "device": model.device or "",
            "dtype": model.dtype or "",
            **{name: str(value) for name, value in sample.items()},
            **{name: str(value) for name, value in self.options.items()},
        }

    def text(self) -> str:
        """Return the pin's text for the address: target, layer, and every field that is not the default."""
        defaults = Pin(StudyKey(ModelKey(), SampleKey(), "", "wanda"), 0, default_options()).fields()
        return urlencode({name: value for name, value in self.fields().items() if value != defaults[name]})

    @classmethod
    def read(cls, text: str) -> Pin:
        """Parse the text that `text` returns.

        Raises:
            PinError: the text does not describe a pin.
        """
        defaults = Pin(StudyKey(ModelKey(), SampleKey(), "", "wanda"), 70, default_options()).fields()
        given = dict(parse_qsl(text[:MAX_PIN_LENGTH], keep_blank_values=True))
        if unknown := given.keys() - defaults.keys():
            raise PinError(f"“{min(unknown)[:20]}” is not part of a pin.")
        fields = defaults | given
        if not fields["layer"] or fields["score"] not in trim.SCORES:
            raise PinError("A pin names a layer and one of the scores.")
        windows, length, vectors, seed = (
            _integer(name, fields[name], *limits) for name, limits in _SAMPLE.items()
        )
        sample = SampleKey(fields["corpus"], windows, length, vectors, seed, fields["bos"] == "True")
        if max(len(fields["learning_rates"]), len(fields["negative_learning_rates"])) > 200:
            raise PinError("The learning rates of a pin are at most 200 letters.")
        model = ModelKey(fields["model"], fields["device"] or None, fields["dtype"] or None)
        try:
            cap = float(fields["max_row_sparsity"])
        except ValueError:
            raise PinError("The largest row sparsity of a pin is a number.") from None
        numbers = {
            "iterations": _integer("iterations", fields["iterations"], 1, 100),
            "max_row_sparsity": cap,
        }
        typed = {name: fields[name] for name in default_options()} | numbers
        options = cast(SearchOptions, typed)
        percent = _integer("target", fields["target"], 1, 99)
        return cls(StudyKey(model, sample, fields["layer"], fields["score"]), percent, options)

    def differences(self, other: Pin) -> str:
        """Describe in a few words how the pin differs from the shown layer."""
        own, others = self.fields(), other.fields()
        changed = {name: value for name, value in own.items() if value != others[name]}
        parts = [
            f"{value}%" if name == "target" else f"{_WORDS.get(name, name)} {value}".strip()
            for name, value in changed.items()
        ]
        return ", ".join(parts) or "the same"


_OPTIONS = default_options()
_SAMPLE_KEY = SampleKey()
# The initial values of the page's controls, by their keys.
_DEFAULTS = {
    "model": "demo",
    "device": "automatic",
    "dtype": "automatic",
    "text": "demo",
    "windows": _SAMPLE_KEY.windows,
    "length": _SAMPLE_KEY.length,
    "vectors": _SAMPLE_KEY.vectors_per_sequence,
    "seed": _SAMPLE_KEY.seed,
    "bos": _SAMPLE_KEY.bos,
    "score": "wanda",
    "target": FIRST_TARGET_PERCENT,
    "shown": "TRIM",
    "part": "Overview",
    "rows": "",
    **{IN_ADDRESS[name]: value for name, value in _OPTIONS.items() if name in IN_ADDRESS},
    "cap": round(100 * _OPTIONS["max_row_sparsity"]),
    "row_weights": "all alike",
}
_WORDS = {
    "layer": "",
    "score": "",
    "corpus": "text",
    "vectors_per_sequence": "vectors",
    "learning_rates": "rates",
    "negative_learning_rates": "negative rates",
    "max_row_sparsity": "cap",
    "layer_quality": "quality",
}


def _integer(name: str, text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not low <= int(text) <= high:
        raise PinError(f"{name} of a pin is a whole number from {low:,} to {high:,}.")
    return int(text)


@dataclass(frozen=True, eq=False)
class Pinned:
    """A pin and its study."""

    pin: Pin
    study: Study

    def outcome(self) -> Outcome:
        """Return the search of the pin.

        Raises:
            TrimError: the pin's options do not fit together.
        """
        return self.study.outcome(settings(self.pin.percent / 100, self.pin.options))


def pinned_layer(shown: Study) -> Pinned | None:
    """Return the layer pinned by the address once it is computed; show why it cannot be."""
    text = st.query_params.get(PARAMETER)
    if not text:
        return None
    try:
        pin = Pin.read(text)
        study = _study(pin.key, shown)
        if study is None:
            return None
        pinned = Pinned(pin, study)
        pinned.outcome()
    except (PinError, trim.TrimError) as error:
        _warn(str(error))
        return None
    return pinned


def _study(key: StudyKey, shown: Study) -> Study | None:
    """Return the study of the pinned layer; None while it is being computed."""
    if key == shown.key:
        return shown
    if (cached := study_in_memory(key)) is not None:
        return cached
    laboratory_ = laboratory()
    if not SEMINAR.may():
        raise PinError("The pinned layer is not open on this server, and computing it is the presenter's.")
    if not laboratory_.started(key.model):
        raise PinError(
            f"The pinned layer {key.layer} is of the model {key.model.source}, which is not in memory. Open that layer "
            "first, and then the address again."
        )
    model = laboratory_.model(key.model).result()
    if key.layer not in model.layers:
        raise PinError(f"{model.title} has no layer {key.layer}, which the address pins.")
    return result_or_progress(laboratory_.study(key, model), key, "Computing the pinned layer")


def _warn(reason: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="no-pin"):
        st.warning(f"Nothing is pinned. {literal(reason)}", icon=":material/keep_off:")
        if st.button("Remove the pin", type="tertiary"):
            st.query_params.pop(PARAMETER, None)
            st.rerun()


def pin_controls(shown: Pin, pinned: Pinned | None) -> None:
    """Show the buttons that pin the view `shown`, and unpin what is pinned."""
    st.caption(
        "A pinned view stays in the charts as a dotted line while you choose another target, score, text or layer."
    )
    if st.button("Pin this view", icon=":material/keep:", key="pin_this"):
        st.query_params[PARAMETER] = shown.text()
        st.rerun()
    if pinned is not None and st.button("Unpin", icon=":material/keep_off:", key="unpin"):
        st.query_params.pop(PARAMETER, None)
        st.rerun()


def reset_controls() -> None:
    """Show the button that resets all controls to the page's defaults."""
    if st.button("Reset to the defaults", icon=":material/restart_alt:", key="reset", on_click=_reset):
        st.rerun()


def _reset() -> None:
    for name in [*st.query_params]:
        if name != "present":
            del st.query_params[name]
    block, path = FIRST_LAYER.split(".", 1)
    defaults = _DEFAULTS | {"block": int(block), "layer": path}
    for name, value in defaults.items():
        if st.session_state.get(name, value) != value:
            st.session_state[name] = value
