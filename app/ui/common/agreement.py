"""The agreement of two masks of a layer, as views of a card."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from app.ui.common.cards import View, theme
from diagnostics.distributions import RowNumbers, distributions
from diagnostics.figures.distributions import agreement_figure
from diagnostics.format import percent
from trim.methods.agreement import MaskAgreement

AGREEMENT_FORMULA = r"""
$$
\mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}
$$

$A$ and $B$: the weights of a row or column that each mask keeps. At random: what masks with as many kept weights in
each row would share.
"""


def agreement_views(agreement: MaskAgreement, first: str, second: str) -> dict[str, Callable[[], View]]:
    """Return the views of a card: by row and by column.

    Args:
        agreement: the masks' agreement.
        first: name of one mask.
        second: name of the other.
    """

    def view(values: np.ndarray, of: Literal["row", "column"]) -> View:
        found = distributions([RowNumbers(f"{first} and {second}", values)])
        return View(
            agreement_figure(found, agreement.expected, theme(), of=of),
            agreement_text(agreement, first, second),
            AGREEMENT_FORMULA,
            f"How far two masks agree by {of}",
            lambda: {of: np.arange(len(values)), "iou": values},
        )

    return {
        "By row": lambda: view(agreement.by_row, "row"),
        "By column": lambda: view(agreement.by_column, "column"),
    }


def agreement_text(agreement: MaskAgreement, first: str, second: str) -> str:
    """Describe which share of the weights that either mask keeps both keep."""
    return (
        f"{first} and {second} share {percent(agreement.whole)} of the weights that either keeps; at random "
        f"{percent(agreement.expected)}. By row {percent(agreement.by_row.min())} to {percent(agreement.by_row.max())}."
    )
