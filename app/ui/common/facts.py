"""A fact in the row of boxes at the top of a page: what it is, its value, and a few words that are no change."""

from streamlit.delta_generator import DeltaGenerator


def fact(column: DeltaGenerator, label: str, value: str, words: str | None, help: str | None = None) -> None:
    """Draw it; `help` is one hover away."""
    column.metric(
        label, value, words, delta_color="off", delta_arrow="off", border=True, height="stretch", help=help
    )
