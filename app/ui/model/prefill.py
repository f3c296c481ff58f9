"""The form for a new run, filled with the settings of another run."""

import streamlit as st

from app.services.runs.store import STORE
from app.ui.common.search_options import as_text
from trim.methods.choices import BUDGETS

P = "new_"  # the keys of the form's widgets begin with it
BUDGET_FILE = "the budgets of another run"


def prefill(run_id: str) -> None:
    """Fill the form with the settings of a run, before its widgets are made.

    Raises:
        RunError: there is none of that id.
    """
    settings = STORE.open(run_id).request
    budget = settings.budget if settings.budget in BUDGETS else BUDGET_FILE
    values = {
        "model": settings.model,
        "target": round(100 * (settings.target or 0.7), 6),
        "name": "",
        "allocation": settings.allocation,
        "budget": budget,
        "score": settings.score,
        "text": settings.corpus,
        "windows": settings.windows,
        "length": settings.length,
        "pattern": settings.pattern or "",
        "layers": " ".join(settings.layers),
        "recalculate": settings.recalculate_inputs,
        "refit": settings.refit,
        "vectors": settings.vectors_per_sequence,
        "seed": settings.seed,
        "cap": None if settings.max_row_sparsity is None else round(100 * settings.max_row_sparsity),
        "device": settings.device or "automatic",
        "dtype": settings.dtype or "automatic",
        "batch": settings.batch,
        "layer_quality": settings.layer_quality,
        "row_quality": settings.row_quality,
        "iterations": settings.iterations,
        "rates": as_text(settings.learning_rates),
        "negative_rates": as_text(settings.negative_learning_rates),
        "owl_width": settings.owl_width,
        "owl_multiple": settings.owl_multiple,
        "alpha_width": settings.alpha_width,
        "alpha_fit": settings.alpha_fit,
        "row_weights": settings.row_weights,
        "sensitivity_windows": settings.sensitivity_windows,
        "second_pass": settings.second_pass,
    }
    for name, value in values.items():
        st.session_state[f"{P}{name}"] = value
