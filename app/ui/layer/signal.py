"""Is it signal? Learned row sparsities with error bars, over draws of the calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.services.layer.keys import SignalKey
from app.ui.common.cards import View, card, theme
from app.ui.common.diagnosis import diagnosis
from app.ui.common.segments import segments
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from app.ui.common.waiting import NothingToShow, laboratory, result_or_stop
from app.ui.layer.live import is_live
from diagnostics.figures.signal import rate_draws_figure, row_signal_figure
from trim.evaluation.diagnose_text import signal_finding
from trim.runs.diagnosis_files import signal_from_json
from trim.runs.diagnosis_shapes import Drawn, RowSignalJson

if TYPE_CHECKING:
    import trim
    from app.services.layer.study import Outcome, Study
    from app.ui.layer.more import ShownLayer

KINDS: dict[Drawn, str] = {
    "vectors": "Input vectors",
    "windows": "Windows of the text",
    "texts": "Texts",
}
DRAWS = 12
FORMULA = r"""
$$
\frac{V_{\text{rows}}}{V_{\text{rows}} + V_{\text{draws}}}, \qquad
V_{\text{draws}} = \frac1D \sum_i \operatorname{var}_k s_{ik}, \qquad
V_{\text{rows}} = \operatorname{var}_i \bar s_i - \frac{V_{\text{draws}}}{K}
$$

$s_{ik}$ is the sparsity that TRIM learns for row $i$ in draw $k$ of $K$: from the layer's input vectors drawn again
with replacement (a bootstrap; the score stays), or from other windows of the text or other texts (then score, Gini and
vectors change). A row is meant to differ where its mean is more than twice its standard deviation away from the layer's
sparsity.
"""


COST = (
    "The run's text is read up to this layer, with the blocks before it pruned; then TRIM learns the layer's rows once "
    "for each draw. Other windows are read once for each."
)


def signal_section(shown: ShownLayer) -> None:
    """Show how certain the layer's row sparsities are, and ask what each draw varies."""
    if shown.live is not None:
        _live_section(*shown.live, shown.rows, shown.file_name)
        return
    run, name = shown.stored
    columns = shown.view.columns

    def show(measured: RowSignalJson) -> None:
        found = signal_from_json(measured, columns)
        of = ", ".join(found.titles) if measured["drawn"] == "texts" else KINDS[measured["drawn"]].lower()
        st.caption(
            literal(
                f"Drawn again: {of}; {measured['vectors']:,} vectors in each of {len(found.rates)} draws."
            )
        )
        signal_card(found, shown.rows, shown.file_name)

    def options() -> list[str] | None:
        draws = _ask_draws(None)
        if draws.kind == "texts":
            return ["--texts", *draws.texts] if draws.texts else None
        chosen = ["--draws", str(draws.number)]
        if draws.kind == "windows":
            return [*chosen, "--other-windows"]
        return chosen + (["--vectors", str(draws.vectors)] if draws.vectors else [])

    diagnosis(run, "signal", "Is it signal?", COST, show, options, name)


@dataclass(frozen=True)
class Draws:
    """The choice of draws: what they vary, their number, the vectors in each (None: all), or the texts."""

    kind: Drawn
    number: int = DRAWS
    vectors: int | None = None
    texts: tuple[str, ...] = ()


def _ask_draws(captured: int | None) -> Draws:
    """Ask what each draw varies; `captured`: the number of captured vectors, if it is known."""
    kind = segments(
        "Drawn again",
        KINDS,
        "signal_kind",
        default="vectors",
        format_func=KINDS.__getitem__,
        labelled=True,
    )
    if kind == "texts":
        given = st.text_input(
            "Other texts",
            key="signal_texts",
            placeholder="wikitext2, /folder/text.txt",
            max_chars=2000,
            help="Names or files, with commas between them: each is a draw, and its own text another.",
        )
        texts = tuple(filter(None, (text.strip() for text in given.split(","))))
        return Draws(kind, 1 + len(texts), captured, texts)
    draws = st.number_input("Draws", 2, 100, DRAWS, key="signal_draws", width=140)
    if kind == "windows":
        return Draws(kind, draws, captured)
    vectors = st.number_input(
        "Vectors in each",
        1,
        None if captured is None else 8 * captured,
        captured,
        key="signal_vectors",
        width=160,
        placeholder="as many",
        help="As many as the layer received: how certain it is now. Fewer or more: how that would change.",
    )
    return Draws(kind, draws, vectors)


def _live_section(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    if not is_live(study):
        st.info("This is measured with the live model, which is being loaded.", icon=":material/bolt:")
        return
    if not presenter_only("Measuring uncertainty"):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        draws = _ask_draws(study.vectors)
        pressed = st.button(
            "Measure",
            type="primary",
            icon=":material/speed:",
            key="measure_signal",
            disabled=draws.number < 2,
        )
    key = SignalKey(
        study.key,
        outcome.result.settings,
        draws.kind,
        draws.number,
        draws.vectors or study.vectors,
        draws.texts,
    )
    laboratory_ = laboratory()
    if not (pressed or laboratory_.started(key)):
        st.caption(
            "The layer is searched once for each draw. Other windows also take a forward pass of the model each. "
            "If you keep the layer as a run, the measurement is kept with it."
        )
        return
    try:
        model = result_or_stop(laboratory_.model(study.key.model), study.key.model)
        found = result_or_stop(laboratory_.signal(key, model), key, "Learning from each draw")
    except NothingToShow:
        return
    signal_card(found, rows, file_name)


def signal_card(found: trim.RowSignal, rows: list[int], file_name: str) -> None:
    """Draw sparsities, Gini and rates over the draws."""
    finding = signal_finding(found)

    def view(figure: str) -> View:
        if figure == "Rates":
            drawn = rate_draws_figure(found.rates, theme())
        elif figure == "Gini":
            drawn = row_signal_figure(found.gini, "Gini of the row's scores", rows, theme(), ".3f")
        else:
            drawn = row_signal_figure(found.sparsity, "row sparsity", rows, theme())
        return View(drawn, finding, FORMULA, f"{figure} over draws", found.columns)

    variants = {name: lambda name=name: view(name) for name in ("Row sparsity", "Gini", "Rates")}
    card("signal", variants, file_name=file_name)
