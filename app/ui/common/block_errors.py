"""The errors of runs from block to block."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.services.results.perplexities import method_of
from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from diagnostics.figures.diagnoses import BlockErrorLine, BlockQuantity, block_error_figure
from trim.evaluation.diagnose_text import blocks_finding
from trim.runs.folder import Run

COST = (
    "The text goes through the dense and the pruned model together, each block once more for each of its layers: about "
    "ten forward passes."
)
FORMULA = r"""
$$
\frac{\lVert\hat h_b - h_b\rVert}{\lVert h_b\rVert}, \qquad
\text{added: } \frac{\lVert\hat f_b(\hat h_{b-1}) - f_b(\hat h_{b-1})\rVert}{\lVert h_b\rVert}, \qquad
\text{carried on: } \frac{\lVert f_b(\hat h_{b-1}) - f_b(h_{b-1})\rVert}{\lVert h_b\rVert}
$$

for each token, then the median over tokens: $h_b$ and $\hat h_b$ are the hidden states after block $b$ of the dense and
of the pruned model, $f_b$ and $\hat f_b$ the block dense and pruned. What is carried on and what is added are vectors:
their lengths do not add up.
"""
VARIANTS: dict[str, BlockQuantity] = {"Error": "error", "Cosine": "cosine", "Added": "added"}
_FIELDS = ("error", "low", "high", "cosine", "carried", "added")


def block_line(run: Run) -> BlockErrorLine:
    """Return the measured errors of a run, for the figure."""
    blocks = run.diagnoses["blocks"]["blocks"]
    columns = {
        field: np.array([float(each[field]) for each in blocks])  # type: ignore[literal-required]
        for field in _FIELDS
    }
    return BlockErrorLine(run.name, method_of(run), np.array([each["block"] for each in blocks]), **columns)


def block_errors_card(runs: Sequence[Run], file_name: str) -> None:
    """Draw the errors of the runs that share the text of the first measured one."""
    measured = [run for run in runs if "blocks" in run.diagnoses]
    text = measured[0].diagnoses["blocks"]["text"]
    same_text = [run for run in measured if run.diagnoses["blocks"]["text"] == text]
    lines = [block_line(run) for run in same_text]

    def view(quantity: BlockQuantity) -> View:
        found = [blocks_finding(run.diagnoses["blocks"]) for run in same_text]
        if len(same_text) > 1:
            found = [f"{run.name}: {sentence}" for run, sentence in zip(same_text, found, strict=True)]
        finding = " ".join(found)
        return View(
            block_error_figure(lines, quantity, theme()),
            finding,
            FORMULA,
            "Lines over the blocks",
            lambda: {
                "run": np.repeat([line.label for line in lines], [len(line.blocks) for line in lines]),
                "block": np.concatenate([line.blocks for line in lines]),
                **{field: np.concatenate([getattr(line, field) for line in lines]) for field in _FIELDS},
            },
        )

    variants = {label: lambda quantity=quantity: view(quantity) for label, quantity in VARIANTS.items()}
    card("block_errors", variants, file_name=file_name)
    if left_out := [run.name for run in runs if run not in same_text]:
        st.caption(literal(f"Not measured on this text: {', '.join(left_out)}."))
