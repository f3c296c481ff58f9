"""The views of the Compare page: distributions, the same rows, masks, perplexity against sparsity."""

import functools
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app.services.results.compared import LIVE, Compared, compare_masks, comparison
from app.services.results.picks import EVERY_BLOCK
from app.services.results.recovered import recovered_points
from app.services.results.sweep_curves import curves, texts, tokens_of
from app.services.results.tables import masks_by_layer
from app.services.runs.layer import LayerView
from app.services.runs.recoveries import recoveries
from app.services.runs.store import STORE
from app.ui.common import explanations
from app.ui.common.agreement import AGREEMENT_FORMULA, agreement_views
from app.ui.common.cards import View, card, theme
from app.ui.common.curves import curves_text, curves_view
from app.ui.common.selection import SelectionSource, chosen_data, on_chart, rows_for
from app.ui.common.text import distinct, literal
from app.ui.compare import text as compare_text
from diagnostics.comparison import AllocationComparison
from diagnostics.distributions import Distributions, RowNumbers, distributions
from diagnostics.figures.distributions import (
    COSINE,
    ERROR,
    GINI,
    MASK_ERROR,
    MOVED,
    RIDGES_FROM,
    ROW_SPARSITY,
    RowQuantity,
    ecdf_figure,
    outlines_figure,
    ridges_figure,
)
from diagnostics.figures.heads import heads_figure
from diagnostics.figures.scatter import ROWS_TRACE, pair_figure
from diagnostics.figures.theme import slot_style
from diagnostics.figures.xray import checkpoint_map_figure
from diagnostics.heads import by_head
from diagnostics.model_map import layer_grid
from trim.errors import RunError
from trim.models.heads import LayerHeads
from trim.names import expert_number

FILE_NAME = "compare"
QUANTITIES = {"Row sparsity": ROW_SPARSITY, "Gini": GINI, "Cosine": COSINE}
# Quantities of changed kept weights, by the names in `LayerView.changes`.
CHANGES = {"row_error_masked": MASK_ERROR, "row_error": ERROR, "row_moved": MOVED}
FORMULAS = {
    ROW_SPARSITY: explanations.ROW_SPARSITY_FORMULA,
    GINI: explanations.GINI_FORMULA,
    COSINE: explanations.COSINE_FORMULA,
} | dict.fromkeys(CHANGES.values(), explanations.CHANGE_FORMULA)


def quantities(compared: Sequence[Compared]) -> dict[str, RowQuantity]:
    """Return the quantities that all rows have; those of changed weights only if all layers have them."""
    changed = all(view.changes for each in compared for view in each.views)
    return QUANTITIES | ({each.name.capitalize(): each for each in CHANGES.values()} if changed else {})


def pairable(compared: Sequence[Compared]) -> bool:
    """Return whether all slots have the same rows."""
    return len({each.rows_key for each in compared}) == 1 and compared[0].single is not None


def _values(view: LayerView, quantity: RowQuantity) -> np.ndarray:
    if quantity is GINI:
        return view.coefficients
    for key, each in CHANGES.items():
        if quantity is each:
            return view.changes[key]
    return view.cosines[-1].cosine if quantity is COSINE else view.own.row_sparsity


def _sets(compared: Sequence[Compared], quantity: RowQuantity) -> list[RowNumbers]:
    """Return one set for each slot; for a kind of layers, one for each block."""
    return [
        RowNumbers(
            each.label if each.single is not None else f"{each.letter} {_member(each.pick.layer, view.name)}",
            _values(view, quantity),
            each.slot,
            view.columns if quantity is ROW_SPARSITY else None,
        )
        for each in compared
        for view in each.views
    ]


def _member(picked: str, name: str) -> str:
    """Return what tells a layer from the others of its slot: "block 12" or "expert 37"."""
    if picked.startswith(EVERY_BLOCK):
        return f"block {name.partition('.')[0]}"
    return f"expert {expert_number(name)}"


def distribution_card(compared: Sequence[Compared], rows: list[int], name: str) -> None:
    """Show one of `quantities` for the rows of all slots on shared axes; many slots are drawn as ridges."""
    heads = _heads(compared)
    quantity = quantities(compared)[name]
    sets = _sets(compared, quantity)

    @functools.cache
    def found() -> Distributions:
        return distributions(sets)

    source = SelectionSource("compare_rows", (name, tuple(str(each.pick) for each in compared)))
    marked = rows_for(source, rows)

    def view(figure: go.Figure) -> View:
        return View(
            figure,
            compare_text.spread_text(found(), quantity),
            FORMULAS[quantity],
            f"Distributions of {quantity.name}",
            lambda: row_numbers(compared),
        )

    def rows_of(points: list[dict]) -> np.ndarray:
        members = [
            found().histogram.members(each.values, bars)
            for index, each in enumerate(sets)
            if (bars := [point["point_index"] for point in points if point["curve_number"] == index])
        ]
        return np.unique(np.concatenate(members)) if members else np.array([], dtype=int)

    variants = {
        "Shares": lambda: view(outlines_figure(found(), quantity, "share", marked, theme())),
        "Counts": lambda: view(outlines_figure(found(), quantity, "count", marked, theme())),
        "ECDF": lambda: view(ecdf_figure(found(), quantity, theme())),
        "Ridges": lambda: view(ridges_figure(found(), quantity, theme())),
    }
    if heads:
        variants["By head"] = lambda: view(
            heads_figure(
                [
                    by_head(each.label, each.values[of.order], of.names)
                    for each, of in zip(sets, heads, strict=True)
                ],
                [slot_style(each.slot, theme()) for each in sets],
                quantity,
                theme(),
            )
        )
    together = pairable(compared)
    if many := len(sets) >= RIDGES_FROM:
        variants = {"Ridges": variants.pop("Ridges")} | variants
    card(
        "compare_many" if many else "compare_rows",
        variants,
        file_name=FILE_NAME,
        on_select=on_chart(source, marked, rows_of) if together and not many else None,
        selectable=frozenset({"Shares", "Counts"}) if together and not many else frozenset(),
        shared=(tuple(each.key for each in compared), name, tuple(marked)),
    )


def _heads(compared: Sequence[Compared]) -> list[LayerHeads]:
    """Return each layer's heads; none if a layer has no heads, or too many."""
    found = [
        view.heads
        for each in compared
        if (view := each.single) is not None and view.heads is not None and view.heads.axis == "rows"
    ]
    return found if len(found) == len(compared) < RIDGES_FROM else []


def pair_cards(
    compared: Sequence[Compared], rows: list[int], letter: str, what: str
) -> AllocationComparison | None:
    """Show the same rows, or the masks, of the first slot and another; return their comparison, None for kinds."""
    first = compared[0]
    other = next((each for each in compared[1:] if each.letter == letter), compared[1])
    if first.single is None or other.single is None:
        _cannot("Layers of several blocks or experts are compared by distribution only.")
        return None
    pair = comparison(first, other)
    if pair.why_unpaired is not None:
        _cannot(f"{first.letter} and {other.letter} are compared by distribution only: {pair.why_unpaired}.")
    elif what == "Masks":
        try:
            agreement = compare_masks(first, other)
        except RunError as error:
            _cannot(str(error))
        else:
            variants = agreement_views(agreement, first.letter, other.letter)
            if not any(each.pick.run_id.startswith(LIVE) for each in (first, other)):
                variants["By layer"] = lambda: _by_layer(first, other)
            card(
                "compare_masks",
                variants,
                file_name=FILE_NAME,
                shared=(first.key, other.key),
            )
    else:
        _rows_card(first, other, pair, rows)
    return pair


def _by_layer(first: Compared, other: Compared) -> View:
    shares = masks_by_layer(*(STORE.open(each.pick.run_id) for each in (first, other)))
    finding = compare_text.agreement_by_layer_text(shares, first.letter, other.letter)
    return View(
        checkpoint_map_figure(
            *layer_grid(shares),
            title="In which layers do the masks agree?",
            subtitle="Share of the layer's kept weights that both keep (IoU).",
            measure="IoU",
            form=".1%",
            theme=theme(),
        ),
        finding,
        AGREEMENT_FORMULA,
        "Heat map, block by layer type",
        lambda: {"layer": np.array(list(shares), dtype=str), "iou": np.array(list(shares.values()))},
    )


def _cannot(why: str) -> None:
    with st.container(border=True, height="stretch", key="card-compare_pair"):
        st.info(literal(why), icon=":material/link_off:")


def _rows_card(first: Compared, other: Compared, pair: AllocationComparison, rows: list[int]) -> None:
    source = SelectionSource("compare_pair", (str(first.pick), str(other.pick)))
    marked = rows_for(source, rows)

    def view() -> View:
        return View(
            pair_figure(pair, marked, theme(), slot_style(other.slot, theme())),
            compare_text.moved_text(pair),
            compare_text.DISTANCE_FORMULA,
            f"A point per row, {ROWS_TRACE} under {pair.first.label} and {pair.second.label}",
            lambda: row_numbers([first, other]),
        )

    card(
        "compare_pair",
        {"Rows": view},
        file_name=FILE_NAME,
        on_select=on_chart(source, marked, chosen_data),
        selectable=frozenset({"Rows"}),
        clickable=True,
        shared=(first.key, other.key, tuple(marked)),
    )


def row_numbers(compared: Sequence[Compared]) -> dict[str, np.ndarray]:
    """Return a table with one line for each row of every layer."""
    views = [(each, view) for each in compared for view in each.views]
    sizes = [view.rows for _, view in views]
    return {
        "slot": np.repeat([each.letter for each, _ in views], sizes),
        "layer": np.repeat([view.name for _, view in views], sizes),
        "row": np.concatenate([np.arange(size) for size in sizes]),
        **{
            quantity.name.lower().replace(" ", "_"): np.concatenate(
                [_values(view, quantity) for _, view in views]
            )
            for quantity in quantities(compared).values()
        },
    }


def sweep_card() -> None:
    """Show perplexity against sparsity, of the stored sweeps and of recoveries on the same text."""
    by_id = {entry.id: entry.sweep for entry in STORE.sweeps() if entry.sweep is not None}
    if not by_id:
        with st.container(border=True, key="card-compare_curves"):
            st.markdown("**What does sparsity cost the model?**")
            st.info(
                "There is no sweep yet. `python -m trim sweep demo --help` says how to prune a model in many ways.",
                icon=":material/info:",
            )
        return
    chosen = st.multiselect(
        "Sweeps",
        list(by_id),
        list(by_id)[:4],
        format_func=distinct({key: sweep.name for key, sweep in by_id.items()}).__getitem__,
        key="compare_curves_sweeps",
    )
    sweeps = [by_id[name] for name in chosen]
    measured = texts(sweeps)
    if not measured:
        st.info("Choose a sweep to see its curves.", icon=":material/touch_app:")
        return
    text = measured[0]
    if len(measured) > 1:
        text = st.selectbox("Text that was predicted", measured, key="compare_curves_text")
    lines, dense = curves(sweeps, text)
    trained = [entry.opened for entry in recoveries() if entry.opened is not None]
    lines += recovered_points(trained, tokens_of(sweeps, text))
    finding = curves_text(lines, dense)

    def view() -> View:
        return curves_view(lines, dense, text, finding, "Perplexity against model sparsity")

    card(
        "compare_curves",
        {"Curves": view},
        file_name=FILE_NAME,
        shared=(tuple(sweeps), text, tuple(lines)),
    )
