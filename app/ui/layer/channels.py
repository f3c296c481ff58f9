"""The channels of an MLP: the rows of gate and up, and the columns of down that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import streamlit as st

from app.services.runs.layer import LayerView
from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from app.ui.common.waiting import NothingToShow
from app.ui.layer.more import ShownLayer
from app.ui.layer.related import related_views
from diagnostics.channels import MOST_PRUNED_SHARE, ChannelPair, channel_pair
from diagnostics.figures.channels import channels_figure
from diagnostics.format import change, percent
from diagnostics.numeric import level
from trim.errors import RunError
from trim.models.roles import mlp_layers

FORMULA = r"""
Channel $i$ of an MLP is made by row $i$ of gate and row $i$ of up, and read by column $i$ of down. Where one of the
three loses all of a channel, what the others keep of it is for nothing. $\rho$ is Spearman's correlation of the
channels' sparsities in two of the three. Shared: of the tenth of the channels that the first prunes most, the share
that is in the tenth of the second; at random a tenth.
"""


def channels_card(shown: ShownLayer) -> None:
    """Show whether the three layers of an MLP spare the same channels."""

    def of_the_mlp(layers: Iterable[str]) -> Iterable[str]:
        found = mlp_layers(shown.view.name, layers)
        return () if found is None else found.names

    method = shown.view.own.method
    missing = None
    try:
        views = related_views(shown, of_the_mlp)
        parts = mlp_layers(shown.view.name, views)
        if parts is None:
            st.info("Not all layers of this MLP are in this run.", icon=":material/info:")
            return
        pruned = {"up row": _row_sparsity(views[parts.up], method)}
        if parts.gate is not None:
            pruned = {"gate row": _row_sparsity(views[parts.gate], method), **pruned}
        try:
            pruned["down column"] = 1 - views[parts.down].masks[method]().mean(axis=0)
        except RunError as error:
            missing = str(error)
    except NothingToShow:
        return
    except (RunError, StopIteration) as error:
        st.info(literal(error) or "Its layers were not all pruned by one method.", icon=":material/info:")
        return
    if len(pruned) < 2:
        st.info(literal(missing), icon=":material/info:")
        return
    names = list(pruned)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    label = shown.view.own.label
    finding = channels_finding(
        label, {pair: channel_pair(*(pruned[name] for name in pair)) for pair in pairs}
    )
    variants: dict[str, Callable[[], View]] = {
        " and ".join(name.partition(" ")[0] for name in pair).capitalize(): partial(
            _view, pair, pruned, shown.rows if shown.view.name != parts.down else [], finding
        )
        for pair in pairs
    }
    card("channels", variants, file_name=shown.file_name, missing=missing, bind="query-params", brief=True)


def _row_sparsity(view: LayerView, method: str) -> np.ndarray:
    return level(view.allocation(method).row_sparsity, view.columns)


def _view(pair: tuple[str, str], pruned: dict[str, np.ndarray], rows: list[int], finding: str) -> View:
    others = [name for name in pruned if name not in pair]
    third = (others[0], pruned[others[0]]) if others else None
    return View(
        channels_figure(channel_pair(*(pruned[name] for name in pair)), pair, third, rows, theme()),
        finding,
        FORMULA,
        f"A point per channel, {pair[0]} against {pair[1]}",
        lambda: {
            "channel": np.arange(len(pruned[pair[0]])),
            **{f"{name.replace(' ', '_')}_pruned": share for name, share in pruned.items()},
        },
    )


def channels_finding(label: str, pairs: dict[tuple[str, str], ChannelPair]) -> str:
    """Describe for each pair whether both prune the same channels."""
    parts = []
    for (first, second), pair in pairs.items():
        agree = (
            "do not both vary"
            if pair.correlation is None
            else f"agree by ρ {change(pair.correlation.coefficient)}, shared {percent(pair.shared, 0)}"
        )
        parts.append(f"{first}s and {second}s {agree}")
    return f"{label}: {'; '.join(parts)} (at random {percent(MOST_PRUNED_SHARE, 0)})."
