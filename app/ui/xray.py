"""The views of an X-ray: a map of the checkpoint, one layer's rows and columns, and its masks against the library's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.ui.common.cards import View, card, theme
from diagnostics.figures.xray import checkpoint_map_figure, zeros_figure
from diagnostics.format import counted, percent
from diagnostics.model_map import layer_grid
from trim.evaluation.xray_text import MASK_TITLES, layer_kind, mean_agreement

if TYPE_CHECKING:
    from trim.evaluation.agreement import Agreement
    from trim.evaluation.xray import Xray
    from trim.evaluation.xray_layer import LayerXray

# By the words of the control: question, what the number is, its form, and the number of a layer.
QUANTITIES: dict[str, tuple[str, str, str, str, Callable[[LayerXray], float]]] = {
    "Sparsity": (
        "Where are the zeros?",
        "Share of each layer's weights that are zero.",
        "zeros",
        ".1%",
        lambda layer: layer.sparsity,
    ),
    "Spread of rows": (
        "Where do rows differ?",
        "Standard deviation of the sparsity of a layer's rows.",
        "spread",
        ".2%",
        lambda layer: float(layer.row_zeros.std()) / layer.shape[1],
    ),
    "Gini of kept": (
        "How concentrated is what was kept?",
        "Median over the layer's rows of the Gini of the magnitudes of their kept weights.",
        "Gini",
        ".3f",
        lambda layer: layer.median_gini,
    ),
    "Moved": (
        "Where did kept weights move?",
        "Distance of the kept weights from the parent's, as a share of their norm.",
        "moved",
        ".2%",
        lambda layer: float("nan") if layer.parent is None else layer.parent.moved,
    ),
}
FORMULA = (
    r"Sparsity of layer $W$: $\#\{W_{ij}=0\}/(D\,N)$. Gini of what a row kept, of the Gini $G_N$ of the whole row with "
    r"$z$ zeros: $G_K=(N\,G_N-z)/(N-z)$. Moved: $\|W-P\|/\|P\|$ over the kept weights, $P$ the parent's."
)


def map_card(found: Xray, file_name: str) -> None:
    """Show one number of every layer."""

    def view(
        title: str, subtitle: str, measure: str, form: str, quantity: Callable[[LayerXray], float]
    ) -> View:
        numbers = {layer.name: quantity(layer) for layer in found.layers}
        grid, blocks, kinds = layer_grid(numbers, layer_kind)
        values = np.where(np.isnan(grid), -np.inf, grid)
        kind, block = np.unravel_index(int(values.argmax()), grid.shape)
        highest = grid[kind, block]
        alike = len({format(value, form) for value in grid[np.isfinite(grid)].tolist()}) == 1
        finding = (
            "No layer has this number."
            if np.isnan(highest)
            else f"The same in every layer: {highest:{form}}."
            if alike
            else f"Highest in block {blocks[block]}, {kinds[kind]}: {highest:{form}}; "
            f"the median of all is {np.nanmedian(grid):{form}}."
        )
        return View(
            checkpoint_map_figure(
                grid, blocks, kinds, title=title, subtitle=subtitle, measure=measure, form=form, theme=theme()
            ),
            finding,
            FORMULA,
            "Heat map, block by layer type",
            lambda: {
                "layer": np.array(list(numbers), dtype=str),
                "value": np.array(list(numbers.values())),
            },
        )

    names = [name for name in QUANTITIES if name != "Moved" or found.parent is not None]
    variants = {name: lambda name=name: view(*QUANTITIES[name]) for name in names}
    card("xray_map", variants, file_name=file_name)


def layer_card(layer: LayerXray, file_name: str) -> None:
    """Show the zeros of one layer."""
    rows, columns = layer.row_zeros / layer.shape[1], layer.column_zeros / layer.shape[0]

    def view() -> View:
        finding = (
            f"Rows lost from {percent(rows.min())} to {percent(rows.max())} of their weights, columns "
            f"from {percent(columns.min())} "
            f"to {percent(columns.max())}; {counted(layer.dead_rows, 'row')} and "
            f"{counted(layer.dead_columns, 'column')} are zero throughout."
        )
        return View(
            zeros_figure(rows, columns, theme()),
            finding,
            FORMULA,
            "Two step lines",
            lambda: {
                "of": np.repeat(["row", "column"], [len(rows), len(columns)]),
                "index": np.concatenate([np.arange(len(rows)), np.arange(len(columns))]),
                "zeros": np.concatenate([layer.row_zeros, layer.column_zeros]),
            },
        )

    card("xray_layer", {"Zeros": view}, file_name=f"{file_name}-{layer.name}")


def agreement_table(found: list[Agreement]) -> None:
    """Show which masks the checkpoint's agree with, on average and layer by layer."""
    means = mean_agreement(found)
    best = max(means, key=means.__getitem__)
    st.markdown(
        f"Closest: **{MASK_TITLES[best]}**. Of the weights that either of the two masks keeps, both keep "
        f"{percent(means[best])}, on average over {len(found)} layers."
    )
    st.dataframe(
        [
            {"Layer": each.name}
            | {MASK_TITLES[method]: share for method, share in each.kept_by_both.items()}
            | {"Output energy lost": each.error}
            for each in found
        ],
        column_config={
            name: st.column_config.NumberColumn(format="percent")
            for name in (*MASK_TITLES.values(), "Output energy lost")
        },
        hide_index=True,
    )
