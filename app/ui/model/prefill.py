"""The form for a new run, filled with the settings of another run."""

import streamlit as st

from app.services.runs.store import STORE
from app.ui.common.option_fields import to_widget
from trim.methods.choices import BUDGETS
from trim.runs.options import Option, options
from trim.runs.published import as_published
from trim.runs.settings import PruneSettings

P = "new_"  # prefix of the form's widget keys
BUDGET_FILE = "the budgets of another run"


def prefill(run_id: str) -> None:
    """Fill the form with the settings of a run, before its widgets are created.

    Raises:
        RunError: no run has this id.
    """
    settings = STORE.open(run_id).request
    for name, each in options(PruneSettings).items():
        value = getattr(settings, name)
        if name == "budget" and value not in BUDGETS:
            value = BUDGET_FILE
        if name == "target" and value is None:
            value = settings.target_sparsity or 0.7
        _fill(name, each, value)
    st.session_state[f"{P}name"] = ""


def fill_as_published() -> None:
    """Fill the form with the options of the TRIM authors' run, but for model, target and what they leave open."""
    for name, value in as_published().items():
        _fill(name, options(PruneSettings)[name], value)


def _fill(name: str, each: Option, value: object) -> None:
    st.session_state[f"{P}{name}"] = to_widget(each, value, listed=name in ("device", "dtype"))
