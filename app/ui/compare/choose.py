"""The controls above the charts: which number of the rows, and which slot beside the first."""

from collections.abc import Iterable, Sequence

import streamlit as st

from app.services.results.compared import Compared


def choose_quantity(names: Iterable[str]) -> str:
    """Choose which number of the rows is drawn."""
    names = list(names)
    return (
        st.segmented_control(
            "Of each row",
            names,
            default=names[0],
            required=True,
            key="compare_quantity",
            label_visibility="collapsed",
        )
        or names[0]
    )


def choose_pair(compared: Sequence[Compared]) -> tuple[str, str]:
    """Choose which slot is set beside the first, by its letter, and whether rows or masks are."""
    first, letters = compared[0].letter, [each.letter for each in compared[1:]]
    st.markdown(f"{first} against", width="content")
    letter = st.segmented_control(
        f"{first} against",
        letters,
        default=letters[0],
        required=True,
        key="against",
        label_visibility="collapsed",
    )
    what = st.segmented_control(
        "Of their",
        ["Rows", "Masks"],
        default="Rows",
        required=True,
        key="pair_view",
        label_visibility="collapsed",
    )
    return letter or letters[0], what or "Rows"
