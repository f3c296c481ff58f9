"""The columns of a layer: large input features, and the kept weights on each, here and in other layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import streamlit as st

from app.services.runs.layer import LayerView
from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from app.ui.common.waiting import NothingToShow
from app.ui.layer.more import ShownLayer
from app.ui.layer.related import related_views
from diagnostics.figures.inputs import features_by_norm_figure, features_sorted_figure, shared_features_figure
from diagnostics.format import change, number, percent
from diagnostics.inputs import OUTLIER, TOP, FeatureStatistics, feature_statistics, outlier_features
from diagnostics.numeric import rank_correlation
from trim.errors import RunError
from trim.models.roles import sharing_input

MAX_FEATURES_NAMED = 5
NO_NORM = "How large the input features are is not stored with a run; open the layer live to see it."
FORMULA = r"""
$$
n_j = \sqrt{\textstyle\sum_{\mathrm{tokens}} x_j^2 \,/\, \mathrm{sequences}}, \qquad
\text{column kept} = \frac{\#\{i : W_{ij} \text{ kept}\}}{D}
$$

Input feature $j$ is read by column $j$ of the layer. An outlier is a feature whose norm is more than five times the
median one. The Gini is that of the numbers of kept weights of the columns: 0 if all columns keep as many.
"""


def inputs_card(shown: ShownLayer) -> None:
    """Show which input features a layer keeps."""
    view = shown.view
    try:
        found = [
            feature_statistics(each.method, each.label, view.masks[each.method](), view.input_norm)
            for each in view.learned or view.allocations
        ]
    except RunError as error:
        st.info(literal(error), icon=":material/info:")
        return
    variants: dict[str, Callable[[], View]] = {}
    if view.input_norm is not None:
        variants["Against size"] = partial(_by_norm, view, view.input_norm, found)
    variants["Sorted"] = partial(_sorted, view, found)
    variants["Shared input"] = partial(_shared, shown, found[-1])
    try:
        card(
            "inputs",
            variants,
            file_name=shown.file_name,
            missing=None if view.input_norm is not None else NO_NORM,
            bind="query-params",
            brief=True,
        )
    except NothingToShow:
        return
    except RunError as error:
        st.info(literal(error), icon=":material/info:")


def _kept(view: LayerView, method: str) -> np.ndarray:
    share: np.ndarray = view.masks[method]().mean(axis=0)
    return share


def _numbers(view: LayerView, found: list[FeatureStatistics]) -> dict[str, np.ndarray]:
    norm = {} if view.input_norm is None else {"norm": view.input_norm}
    return {
        "feature": np.arange(view.columns),
        **norm,
        **{f"kept_{each.method}": each.kept for each in found},
    }


def _by_norm(view: LayerView, norm: np.ndarray, found: list[FeatureStatistics]) -> View:
    outliers = outlier_features(norm)
    return View(
        features_by_norm_figure(found, norm, outliers, theme()),
        norms_finding(norm, outliers, found),
        FORMULA,
        "Share of each column that is kept, against the norm of its input feature",
        lambda: _numbers(view, found),
    )


def norms_finding(norm: np.ndarray, outliers: np.ndarray, found: list[FeatureStatistics]) -> str:
    """Name the largest features, and describe their share of the kept weights."""
    median, largest = float(np.median(norm)), int(norm.argmax())

    def named(feature: int) -> str:
        return str(feature) + (f" ({number(float(norm[feature]) / median, 2)} times)" if median else "")

    if len(outliers):
        verb = "is" if len(outliers) == 1 else "are"
        names = ", ".join(named(int(feature)) for feature in outliers[:MAX_FEATURES_NAMED])
        more = (
            f" and {len(outliers) - MAX_FEATURES_NAMED:,} more" if len(outliers) > MAX_FEATURES_NAMED else ""
        )
        sentence = (
            f"{len(outliers):,} of {len(norm):,} input features {verb} more than {OUTLIER:g} times as large as the "
            f"median one: {names}{more}."
        )
    else:
        sentence = (
            f"No input feature is more than {OUTLIER:g} times as large as the median one; the largest is "
            f"{named(largest)}."
        )
    for each in found:
        parts = []
        if len(outliers):
            share = int(each.kept[outliers].sum()) / max(1, int(each.kept.sum()))
            parts.append(
                f"{each.label} keeps {percent(float(each.share[outliers].mean()))} of their weights, "
                f"{percent(share, 2)} of all that it keeps"
            )
        if each.with_norm is not None:
            whose = "" if parts else f"{each.label}: "
            parts.append(f"{whose}size and kept share agree by Spearman {change(each.with_norm.coefficient)}")
        sentence += f" {'; '.join(parts)}." if parts else ""
    return sentence


def _sorted(view: LayerView, found: list[FeatureStatistics]) -> View:
    return View(
        features_sorted_figure(found, theme()),
        sorted_finding(found),
        FORMULA,
        "Share of each column that is kept, the fullest first",
        lambda: _numbers(view, found),
    )


def sorted_finding(found: list[FeatureStatistics]) -> str:
    """Describe how concentrated the kept weights are over the columns."""
    return " ".join(
        f"{each.label}: the {percent(TOP, 0)} of the features with most of them hold "
        f"{percent(each.top_share, 2)} of the kept "
        f"weights; Gini over features {number(each.gini, 3)}; {int((each.kept == 0).sum()):,} of {len(each.kept):,} "
        "columns are empty."
        for each in found
    )


def _shared(page: ShownLayer, own: FeatureStatistics) -> View:
    view = page.view
    sharing = related_views(page, partial(sharing_input, view.name))
    others = {name: _kept(other, own.method) for name, other in sharing.items() if name != view.name}
    return View(
        shared_features_figure(own.share, others, view.name, theme()),
        shared_finding(own, others),
        FORMULA,
        "Share of each column kept here and in layers that read the same input",
        lambda: {"feature": np.arange(view.columns), view.name: own.share, **others},
    )


def shared_finding(own: FeatureStatistics, others: dict[str, np.ndarray]) -> str:
    """Describe how far layers with the same input keep the same features."""
    if not others:
        return "No other layer that reads the same input is here."
    parts = []
    for name, share in others.items():
        found = rank_correlation(own.share, share)
        parts.append(f"{name} " + ("not defined" if found is None else change(found.coefficient)))
    return f"{own.label}: which features are kept agrees by Spearman with {', '.join(parts)}."
