"""The controls above the charts: which number of the rows, and which slot beside the first."""

from collections.abc import Iterable, Sequence

import streamlit as st

from app.services.results.compared import Compared
from app.ui.common.segments import segments


def choose_quantity(names: Iterable[str]) -> str:
    """Choose which number of the rows is drawn."""
    return segments("Of each row", names, "compare_quantity")


def choose_pair(compared: Sequence[Compared]) -> tuple[str, str]:
    """Choose which slot is set beside the first, by its letter, and whether rows or masks are."""
    first, letters = compared[0].letter, [each.letter for each in compared[1:]]
    st.markdown(f"{first} against", width="content")
    letter = segments(f"{first} against", letters, "against")
    return letter, segments("Of their", ("Rows", "Masks"), "pair_view")
