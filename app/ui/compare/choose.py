"""The controls above the charts: the quantity of the rows, and the slot to compare with the first."""

from collections.abc import Iterable, Sequence

import streamlit as st

from app.services.results.compared import Compared
from app.ui.common.segments import segments


def choose_quantity(names: Iterable[str]) -> str:
    """Choose the quantity of the rows to draw."""
    return segments("Of each row", names, "compare_quantity")


def choose_pair(compared: Sequence[Compared]) -> tuple[str, str]:
    """Choose the slot to compare with the first, by its letter, and whether to compare rows or masks."""
    first, letters = compared[0].letter, [each.letter for each in compared[1:]]
    st.markdown(f"{first} against", width="content")
    letter = segments(f"{first} against", letters, "against")
    return letter, segments("Of their", ("Rows", "Masks"), "pair_view")
