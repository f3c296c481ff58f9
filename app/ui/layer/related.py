"""Other layers of the same block under the same settings, for views of several layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import streamlit as st

from app.services.layer.keys import SensitivityKey
from app.services.runs.layer import LayerView
from app.ui.common.seminar import presenter_only
from app.ui.common.waiting import NothingToShow, laboratory, result_or_stop
from app.ui.layer.live import is_live
from app.ui.layer.more import ShownLayer


def related_views(
    shown: ShownLayer, choose: Callable[[Iterable[str]], Iterable[str]]
) -> dict[str, LayerView]:
    """Return the chosen layers by name, which may include the page's own.

    Args:
        shown: the layer of the page.
        choose: receives all names and returns the chosen ones.

    Raises:
        NothingToShow: the layers cannot be prepared; the page says why.
        RunError: the run is damaged.
    """
    if shown.run is not None:
        run = shown.run
        return {
            name: shown.whole if name == shown.view.name else LayerView.of(run, run.layer(name, mask=False))
            for name in choose(run.layers)
        }
    assert shown.live is not None, "a layer is live or stored"
    study, outcome = shown.live
    if not is_live(study):
        st.info(
            "The other layers are shown as soon as the live model is loaded.", icon=":material/hourglass_top:"
        )
        raise NothingToShow
    if not presenter_only("Preparing the other layers"):
        raise NothingToShow
    model = result_or_stop(laboratory().model(study.key.model), study.key.model)
    views = {}
    for name in choose(model.layers):
        key = replace(study.key, layer=name)
        other = (
            study
            if name == study.key.layer
            else result_or_stop(laboratory().study(key, model), key, f"Preparing {name}")
        )
        weights = None
        if outcome.optimum.sensitivity is not None:
            sensitivities = laboratory().sensitivity(SensitivityKey(key.model, key.sample), model)
            weights = sensitivities.result()[name].numpy(force=True)
        views[name] = other.outcome(outcome.result.settings, weights).view
    return views
