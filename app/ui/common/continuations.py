"""One prompt, continued by the dense model and by the same model as several methods pruned it, side by side."""

import streamlit as st

from app.services.runs.layer import METHOD_LABELS
from app.ui.common.text import literal
from trim.runs.folder import Run

MAX_COLUMNS = 4


def continuations_card(run: Run) -> None:
    """Show the stored continuations of a run, if it has any."""
    for entry in run.metrics.get("continuations", []):
        with st.container(border=True):
            st.markdown("**What does the model still say?**")
            st.caption(
                f"“{literal(entry['prompt'])}” and the most probable words that follow, "
                f"at most {entry.get('new_tokens', '?')} tokens, from each model at the same model sparsity."
            )
            texts = list(entry["texts"].items())
            for start in range(0, len(texts), MAX_COLUMNS):
                columns = st.columns(MAX_COLUMNS)
                for column, (name, text) in zip(columns, texts[start:], strict=False):
                    column.markdown(f"**{literal(METHOD_LABELS.get(name, name.capitalize()))}**")
                    column.markdown(literal(text) or ":gray[nothing]")
