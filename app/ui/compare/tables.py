"""The tables of the Compare page: settings, distances, rows that moved, rows that are selected."""

from collections.abc import Hashable, Sequence

import streamlit as st

from app.services.results.compared import Compared, Setting, comparison, settings
from app.services.server.access import SEMINAR
from app.services.server.lru import SharedCache
from app.ui.common.text import literal
from app.ui.compare import text as compare_text
from diagnostics.comparison import AllocationComparison
from diagnostics.format import change, percent

TABLE_CACHE_SIZE = 64
_tables: SharedCache[Hashable, tuple[str, str]] = SharedCache(TABLE_CACHE_SIZE)


def settings_table(compared: Sequence[Compared]) -> None:
    """Show the settings that differ, and the equal ones one click away."""
    key = tuple((each.key, each.source.name) for each in compared), SEMINAR.may()
    different, same = _tables.get(key, lambda: _settings_tables(compared))
    if different:
        st.markdown("**What differs**")
        st.markdown(different)
    with st.popover("What is the same", icon=":material/equal:"):
        st.markdown(same)


def _settings_tables(compared: Sequence[Compared]) -> tuple[str, str]:
    """Return the differing and the equal settings as Markdown tables; "": nothing differs."""
    lines, letters = settings(compared), [each.letter for each in compared]

    def table(chosen: Sequence[Setting]) -> str:
        return "\n".join(["| Setting | Value |", "|---|---|", *(_setting(line, letters) for line in chosen)])

    different = [line for line in lines if line.differs]
    return table(different) if different else "", table([line for line in lines if not line.differs])


def _setting(line: Setting, letters: Sequence[str]) -> str:
    """Format a setting as a line of a table: each value once, after the letters of the slots that have it."""
    slots: dict[str, list[str]] = {}
    for letter, value in zip(letters, line.values, strict=True):
        slots.setdefault(value, []).append(letter)
    values = [
        f"**{' '.join(having)}** {literal(value)}" if line.differs else literal(value)
        for value, having in slots.items()
    ]
    return f"| {line.name[:1].upper()}{line.name[1:]} | {' · '.join(values)} |"


def distances(compared: Sequence[Compared], pair: AllocationComparison | None) -> None:
    """Show how far every slot is from the first, and explain the distance of the chosen pair."""
    if len(compared) < 2:
        return
    first = compared[0]
    pairs = [comparison(first, other) for other in compared[1:] if other.single is not None]
    if first.single is None or not pairs:
        return
    st.markdown("**How far apart?**")
    st.markdown("\n".join(compare_text.distance_lines(pairs)))
    if pair is not None:
        st.caption(literal(compare_text.distance_text(pair)))
    with st.popover("KS, W₁, Spearman", type="tertiary", icon=":material/function:"):
        st.markdown(compare_text.DISTANCE_FORMULA)


def moved_table(pair: AllocationComparison) -> None:
    """Show the rows that moved most."""
    if not pair.moved:
        return
    first, second = pair.first.label, pair.second.label
    lines = [f"| row | {literal(first)} | {literal(second)} | points |", "|---|---|---|---|"]
    lines += [
        f"| {move.row} | {percent(move.first)} | {percent(move.second)} | {change(100 * move.change, 3)} |"
        for move in pair.moved
    ]
    with st.expander("Rows that moved most", icon=":material/swap_vert:"):
        st.markdown("\n".join(lines))


def selected_table(compared: Sequence[Compared], rows: list[int]) -> None:
    """Show the selected rows in each slot."""
    st.markdown("**Selected rows**")
    table = {"row": rows, "Gini": compared[0].first.coefficients[rows]}
    for each in compared:
        table[f"{each.letter}: row sparsity"] = each.first.own.row_sparsity[rows]
        table[f"{each.letter}: cosine"] = each.first.cosines[-1].cosine[rows]
    columns = {
        name: st.column_config.NumberColumn(format="percent" if "sparsity" in name else "%.4f")
        for name in table
        if name != "row"
    }
    st.dataframe(table, hide_index=True, height=min(38 + 35 * len(rows), 300), column_config=columns)
