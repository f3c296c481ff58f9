"""The agreement of the masks of any two methods and scores on a live layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.services.runs.layer import METHOD_LABELS
from app.ui.common.agreement import agreement_views
from app.ui.common.cards import card
from app.ui.common.diagnosis import diagnosis
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from app.ui.common.waiting import NothingToShow, laboratory, result_or_stop
from app.ui.layer.live import is_live
from app.ui.layer.solved import solution_of
from trim.errors import TrimError
from trim.evaluation.diagnose_text import agreements_finding
from trim.methods.agreement import mask_agreement
from trim.methods.choices import ALLOCATIONS, SCORES, SOLVERS
from trim.runs.diagnosis_files import agreement_from_json

if TYPE_CHECKING:
    from app.services.layer.study import Outcome, Study
    from app.ui.layer.more import ShownLayer
    from trim.runs.diagnosis_shapes import MaskAgreementJson

Choice = tuple[str, str]  # a score and an allocation, or "" and a solver, which uses no score
COST = (
    "The run's text is read up to this layer, with the blocks before it pruned; then every method and score of the "
    "library prunes the layer as far as the run did."
)


def agreement_section(shown: ShownLayer) -> None:
    """Choose two masks of the layer at its target, and show how far they agree by row and by column."""
    if shown.live is None:
        _stored_section(shown)
        return
    study, outcome = shown.live
    choices = _choices(study, outcome)
    first, second = st.columns(2)
    with first:
        one = _choose("One mask", choices, (study.key.score, "trim"), "mask_one")
    with second:
        other = _choose("Another", choices, (study.key.score, "uniform"), "mask_other")
    try:
        found = mask_agreement(_mask(study, outcome, one), _mask(study, outcome, other))
    except NothingToShow:
        return
    except TrimError as error:
        st.info(literal(error), icon=":material/info:")
        return
    card(
        "masks_agree",
        agreement_views(found, _label(one), _label(other)),
        file_name=shown.file_name,
        bind="query-params",
        brief=True,
    )


def _stored_section(shown: ShownLayer) -> None:
    """Compare the run's own mask with the library's masks on the layer's inputs."""
    run, name = shown.stored

    def show(found: list[MaskAgreementJson]) -> None:
        st.caption(literal(agreements_finding(found)))
        measured = st.selectbox(
            "The run's mask and that of",
            sorted(found, key=lambda each: -each["whole"]),
            format_func=lambda each: f"{_label((each['score'], each['allocation']))}: {each['whole']:.1%}",
            key="mask_other",
        )
        views = agreement_views(
            agreement_from_json(measured), "The run", _label((measured["score"], measured["allocation"]))
        )
        card("masks_agree", views, file_name=shown.file_name, brief=True)

    diagnosis(run, "agreement", "Do methods agree?", COST, show, layer=name)


def _choices(study: Study, outcome: Outcome) -> list[Choice]:
    """Return the choices that have a mask; the shipped layer has masks of its own score only."""
    own = [(study.key.score, method) for method in outcome.view.masks]
    if not is_live(study):
        return own
    scored = ((score, method) for score in SCORES for method in ALLOCATIONS)
    return list(dict.fromkeys([*own, *scored, *(("", solver) for solver in SOLVERS)]))


def _choose(label: str, choices: list[Choice], first: Choice, key: str) -> Choice:
    chosen: Choice = st.selectbox(
        label, choices, choices.index(first), format_func=_label, key=f"{key}_{len(choices)}"
    )
    return chosen


def _label(choice: Choice) -> str:
    score, method = choice
    return METHOD_LABELS.get(method, method) + (f" by {score}" if score else "")


def _mask(study: Study, outcome: Outcome, choice: Choice) -> np.ndarray:
    """Return a mask (D, N) at the target and under the options of an outcome.

    Raises:
        NothingToShow: the layer by that score cannot be prepared; the page says why.
        TrimError: the method cannot reach the target.
    """
    from app.services.layer.tensor_layer import TensorLayer

    score, method = choice
    if method in SOLVERS:
        return solution_of(study, outcome, method).keep.numpy(force=True)
    if score != study.key.score:
        key = replace(study.key, score=score)
        other = laboratory().finished_study(key)
        if other is None:
            if not presenter_only("Preparing the layer by another score"):
                raise NothingToShow
            model = result_or_stop(laboratory().model(key.model), key.model)
            other = result_or_stop(laboratory().study(key, model), key)
        outcome = other.outcome(outcome.result.settings, outcome.optimum.sensitivity)
        study = other
    if method in outcome.view.masks:
        return outcome.view.masks[method]()
    assert isinstance(study.layer, TensorLayer), "a live layer alone has further methods"
    return study.layer.allocated_mask(method, outcome.result)
