"""The views of the Compare page: distributions, the same rows, Ginis, perplexity against sparsity."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.services.results.compared import Compared, comparison, gini_sets, settings
from app.services.results.sweep_curves import curves, texts
from app.services.runs.store import STORE
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.curves import curves_text, curves_view
from app.ui.common.selection import Source, on_chart, rows_for
from app.ui.common.text import plain
from app.ui.compare import text as compare_text
from diagnostics.allocation import row_sparsity_statistics
from diagnostics.comparison import AllocationComparison
from diagnostics.concentration import gini_statistics
from diagnostics.figures.allocation import row_sparsity_ecdf, row_sparsity_histogram, sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram
from diagnostics.figures.scatter import ROWS_TRACE, pair_figure

FILE_NAME = "compare"


def settings_table(compared: Sequence[Compared]) -> None:
    """Show what differs, and what does not one click away."""
    lines = settings(compared)
    head = "| setting | " + " | ".join(each.letter for each in compared) + " |"
    rule = "|---" * (len(compared) + 1) + "|"

    def table(chosen: list) -> str:
        cells = [f"| {line.name} | " + " | ".join(map(plain, line.values)) + " |" for line in chosen]
        return "\n".join([head, rule, *cells])

    different = [line for line in lines if line.differs]
    if different:
        st.markdown("**What differs**")
        st.markdown(table(different))
    with st.popover("What is the same", icon=":material/equal:"):
        st.markdown(table([line for line in lines if not line.differs]))


def pairable(compared: Sequence[Compared]) -> bool:
    """Return whether the rows of all are the same ones."""
    return len({each.rows_are for each in compared}) == 1


def distribution_card(compared: Sequence[Compared], rows: list[int]) -> None:
    """Row sparsities of all on shared axes."""
    statistics = row_sparsity_statistics([each.allocation for each in compared])
    picks = tuple(str(each.pick) for each in compared)
    source = Source("compare_rows", picks)
    marked = rows_for(source, rows)

    def view(figure) -> View:
        return View(figure, seen, explanations.ROW_SPARSITY_FORMULA, alt, lambda: row_numbers(compared))

    spreads = [
        f"{each.label} {each.stored.own.row_sparsity.min():.1%} to {each.stored.own.row_sparsity.max():.1%}"
        for each in compared
    ]
    seen = plain(f"Row sparsities: {'; '.join(spreads)}.")
    alt = f"Distributions of row sparsity. {'; '.join(spreads)}"

    def rows_of(points: list[dict]) -> np.ndarray:
        found = [
            statistics.histogram.members(each.stored.own.row_sparsity, bars)
            for place, each in enumerate(compared)
            if (bars := [point["point_index"] for point in points if point["curve_number"] == place])
        ]
        return np.unique(np.concatenate(found)) if found else np.array([], dtype=int)

    together = pairable(compared)
    callback = on_chart(source, marked, rows_of) if together else None
    card(
        "compare_rows",
        {
            "ECDF": lambda: view(row_sparsity_ecdf(statistics, theme())),
            "Histogram": lambda: view(row_sparsity_histogram(statistics, marked, theme())),
            "Sorted": lambda: view(sorted_row_sparsity(statistics, rows, theme())),
        },
        file_name=FILE_NAME,
        on_select=callback,
        selectable=frozenset({"Histogram"}) if together else frozenset(),
    )


def distances(comparisons: list[AllocationComparison]) -> None:
    """Show the distances of every pair, and what each says."""
    with st.container(border=True, height="stretch", key="card-distances"):
        st.markdown("**How far apart are they?**")
        st.caption(
            "Kolmogorov–Smirnov (KS) and Wasserstein-1 (W₁) distances, and Spearman's rank correlation."
        )
        st.markdown("\n".join(compare_text.distance_lines(comparisons)))
        for each in comparisons:
            st.caption(compare_text.distance_text(each))
        with st.popover("Formula", type="tertiary", icon=":material/function:"):
            st.markdown(compare_text.DISTANCE_FORMULA)


def pair_card(compared: Sequence[Compared], rows: list[int]) -> AllocationComparison | None:
    """Show the same rows under A and another; explain where they are not the same rows."""
    first, others = compared[0], {each.letter: each for each in compared[1:]}
    with st.container(height="stretch", key="pair"):
        letter = st.segmented_control(
            f"{first.letter} against", list(others), default=next(iter(others)), required=True, key="against"
        )
        pair = comparison(first, others[letter])
        if pair.rows_differ is not None:
            with st.container(border=True, key="card-compare_pair"):
                st.markdown("**Do the same rows lose as much?**")
                st.info(
                    f"{first.letter} and {letter} are compared by distribution only: {pair.rows_differ}.",
                    icon=":material/link_off:",
                )
            return None
        source = Source("compare_pair", (str(first.pick), str(others[letter].pick)))
        marked = rows_for(source, rows)

        def rows_of(points: list[dict]) -> np.ndarray:
            return np.array(
                [int(np.ravel(point["customdata"])[0]) for point in points if "customdata" in point]
            )

        view = View(
            pair_figure(pair, marked, theme()),
            plain(compare_text.moved_text(pair)),
            compare_text.DISTANCE_FORMULA,
            f"A point per row, {ROWS_TRACE} under {pair.first.label} and {pair.second.label}. "
            + compare_text.moved_text(pair),
            lambda: row_numbers([first, others[letter]]),
        )
        card(
            "compare_pair",
            {"Rows": lambda: view},
            file_name=FILE_NAME,
            on_select=on_chart(source, marked, rows_of),
            selectable=frozenset({"Rows"}),
            clickable=True,
        )
    return pair


def moved_table(pair: AllocationComparison) -> None:
    """Show the rows that moved most."""
    st.markdown("**Rows that moved most**")
    if not pair.moved:
        st.caption("Every row has the same row sparsity under both.")
        return
    first, second = pair.first.label, pair.second.label
    lines = [f"| row | {plain(first)} | {plain(second)} | change in points |", "|---|---|---|---|"]
    lines += [
        f"| {move.row} | {move.first:.1%} | {move.second:.1%} | {100 * move.change:+.1f} |".replace("-", "−")
        for move in pair.moved
    ]
    st.markdown("\n".join(lines))


def row_numbers(compared: Sequence[Compared]) -> dict[str, np.ndarray]:
    """Row sparsity and cosine of every row under each, padded with NaN where layers differ in rows."""
    most = max(each.stored.rows for each in compared)
    numbers = {"row": np.arange(most)}
    for each in compared:
        for name, values in (
            ("row_sparsity", each.stored.own.row_sparsity),
            ("cosine", each.stored.cosines[-1].cosine),
        ):
            padded = np.full(most, np.nan)
            padded[: len(values)] = values
            numbers[f"{each.letter}_{name}"] = padded
    return numbers


def selected_table(compared: Sequence[Compared], rows: list[int]) -> None:
    """Show the selected rows under each."""
    table = {"row": rows, "Gini": compared[0].stored.coefficients[rows]}
    for each in compared:
        table[f"{each.letter}: row sparsity"] = each.stored.own.row_sparsity[rows]
        table[f"{each.letter}: cosine"] = each.stored.cosines[-1].cosine[rows]
    shares = {name: st.column_config.NumberColumn(format="percent") for name in table if "sparsity" in name}
    st.dataframe(table, hide_index=True, height=min(38 + 35 * len(rows), 300), column_config=shares)


def gini_card(compared: Sequence[Compared]) -> None:
    """Gini distributions of the layers."""
    sets = gini_sets(compared)
    statistics = gini_statistics(sets)
    view = View(
        gini_histogram(statistics, (), theme()),
        plain(compare_text.gini_text(statistics)),
        explanations.GINI_FORMULA,
        f"Gini histograms. {compare_text.gini_text(statistics)}",
        lambda: {
            "layer": np.repeat(list(sets), [len(values) for values in sets.values()]),
            "gini": np.concatenate(list(sets.values())),
        },
    )
    card("compare_gini", {"Gini": lambda: view}, file_name=FILE_NAME)


def sweep_card(key: str = "compare_curves") -> None:
    """Perplexity against sparsity, of the sweeps of the store."""
    known = {entry.id: entry.sweep for entry in STORE.sweeps() if entry.sweep is not None}
    if not known:
        with st.container(border=True, key=f"card-{key}"):
            st.markdown("**What does sparsity cost the model?**")
            st.info(
                "There is no sweep yet. `python -m trim sweep demo --help` says how to prune a model in many ways.",
                icon=":material/info:",
            )
        return
    chosen = st.multiselect(
        "Sweeps", list(known), list(known)[:4], format_func=lambda name: known[name].name, key=f"{key}_sweeps"
    )
    sweeps = [known[name] for name in chosen]
    measured = texts(sweeps)
    if not measured:
        st.info("Choose a sweep to see its curves.", icon=":material/touch_app:")
        return
    text = measured[0]
    if len(measured) > 1:
        text = st.selectbox("Text that was predicted", measured, key=f"{key}_text")
    lines, dense = curves(sweeps, text)
    words = curves_text(lines, dense)
    view = curves_view(lines, dense, text, words, "Perplexity against model sparsity")
    card(key, {"Curves": lambda: view}, file_name=FILE_NAME)
