"""The views of a whole model: heat maps in which a click opens a layer, outcomes against the Gini, perplexities."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import streamlit as st

from app.services.results.perplexities import on_one_text
from app.services.results.picks import Pick
from app.services.runs.recoveries import recovered_bars
from app.ui.common.cards import View, card, theme
from app.ui.common.explanations import MAP_FORMULAS
from app.ui.common.maps import map_finding
from app.ui.common.present import link, presenter_parameters
from app.ui.common.selection import chosen_data
from app.ui.common.slots import add_to_compare
from app.ui.common.text import literal
from app.ui.model.text import PERPLEXITY_FORMULA, lanes_finding
from diagnostics.figures.model_map import model_map_figure
from diagnostics.figures.outcome_gini import outcome_gini_figure
from diagnostics.figures.perplexity import PerplexityBar, perplexity_figure
from diagnostics.figures.tokens_gini import tokens_gini_figure
from diagnostics.format import number, percent
from diagnostics.gap import captured_share
from diagnostics.model_map import MapQuantity, ModelMap, OutcomeLane, outcome_lanes
from trim.runs.folder import Run
from trim.runs.recovery import Recovery

MAPS: dict[str, dict[str, MapQuantity]] = {
    "map_gain": {"Gain over uniform": "quality_gain"},
    "map_outcome": {"Learning rate": "outcome"},
    "map_gini": {"Median Gini": "median_gini", "Layer sparsity": "layer_sparsity"},
    "map_variance": {
        "Change": "row_variance_change",
        "Uniform": "row_variance_uniform",
        "As pruned": "row_variance",
    },
}
CHANGES: dict[str, MapQuantity] = {"Error left": "error_left", "Weights moved": "weights_moved"}
COSTS = "Layer costs"  # the part of the page


def map_card(
    key: str,
    shown: ModelMap,
    file_name: str,
    more: Mapping[str, Callable[[], View]] | None = None,
) -> None:
    """Show one of the cards of `MAPS`; where TRIM did not search, the layers' losses replace learning rates.

    `more`: further views on the card, in which nothing can be clicked.
    """
    searched = shown.searched or not shown.layers
    quantities = MAPS[key]
    if not searched and key == "map_outcome":
        quantities = {"Layer sparsity": "layer_sparsity"}
    elif not searched and key == "map_gini":
        quantities = {"Median Gini": "median_gini"}

    note = ""
    if key == "map_outcome" and not searched:
        note = " This run was not made by TRIM, so no layer has a learning rate."
    variants = {label: lambda q=q: map_view(shown, q, note) for label, q in quantities.items()}
    selectable_card(key, variants, file_name, shown, more)


def change_card(shown: ModelMap, file_name: str) -> None:
    """Show the layers' errors left after the kept weights were changed, and how far these moved."""
    variants = {
        label: lambda quantity=quantity: map_view(shown, quantity) for label, quantity in CHANGES.items()
    }
    selectable_card("map_change", variants, file_name, shown)


def experts_choice(shown: ModelMap) -> ModelMap:
    """Let the reader choose which layers of a mixture of experts the maps show; a dense model has no choice."""
    if not shown.families:
        return shown
    others = shown.part("")
    choices = ([""] if others.planned else []) + list(shown.families)
    chosen = st.selectbox(
        "Layers",
        choices,
        format_func=lambda family: f"Experts: {family}" if family else "All but experts",
        key="map_family",
    )
    return shown.part(chosen)


def experts_card(shown: ModelMap, file_name: str) -> None:
    """Show how many tokens reached each expert, and whether its Gini correlates with that."""

    def against_gini() -> View:
        finding = map_finding(shown, "tokens")
        return View(
            tokens_gini_figure(shown, theme()),
            finding,
            MAP_FORMULAS["tokens"] + MAP_FORMULAS["median_gini"],
            "Median Gini of each expert over the tokens that it received",
            shown.columns,
        )

    variants = {"Tokens received": lambda: map_view(shown, "tokens"), "Gini against tokens": against_gini}
    selectable_card("map_tokens", variants, file_name, shown)


def agreement_card(maps: Sequence[ModelMap], file_name: str) -> None:
    """Show whether a run spares the same rows as other runs: one map for each of them (`agreement_map`)."""
    variants = {
        f"{index}. {shown.label}": lambda shown=shown: map_view(shown, "row_agreement")
        for index, shown in enumerate(maps, 1)
    }
    card("row_agreement", variants, file_name=file_name, shared=tuple(maps))


def map_view(shown: ModelMap, quantity: MapQuantity, more: str = "") -> View:
    """Draw one number of every layer; `more` is added to the finding."""
    finding = map_finding(shown, quantity) + more
    return View(
        model_map_figure(shown, quantity, theme()),
        finding,
        MAP_FORMULAS[quantity],
        "Heat map, block by layer type",
        shown.columns,
        has_key=quantity in ("outcome", "row_variance_change"),
    )


def outcome_card(maps: Sequence[ModelMap], file_name: str) -> None:
    """Show learning-rate outcome against median Gini, of one or two runs of TRIM."""
    searched = [shown for shown in maps if shown.searched][:2]
    if not searched:
        return

    @functools.cache
    def lanes() -> tuple[OutcomeLane, ...]:
        return outcome_lanes(searched)

    def numbers() -> dict[str, np.ndarray]:
        sizes = [lane.gini.size for lane in lanes()]
        return {
            "run": np.repeat([lane.run for lane in lanes()], sizes),
            "layer": np.array([name for lane in lanes() for name in lane.names], dtype=str),
            "outcome": np.repeat([lane.outcome for lane in lanes()], sizes),
            "median_gini": np.concatenate([lane.gini for lane in lanes()]),
        }

    def view() -> View:
        return View(
            outcome_gini_figure(lanes(), theme()),
            lanes_finding(searched),
            MAP_FORMULAS["outcome"] + MAP_FORMULAS["median_gini"],
            "Learning-rate outcome of every layer against its median Gini",
            numbers,
            has_key=True,
        )

    card("outcome_gini", {"Outcome": view}, file_name=file_name, shared=tuple(searched), brief=True)


def perplexity_card(runs: Sequence[Run], recovered: Sequence[Recovery], file_name: str) -> None:
    """Show the perplexity of runs, of their recoveries, and of their dense model on the same windows."""
    measured = on_one_text(runs)
    if measured is None:
        with st.container(border=True, height="stretch", key="card-perplexity"):
            st.markdown("**How well does the model still predict?**")
            st.info(
                "None of these runs was measured yet. Tick “Measure perplexity afterwards” for a new run, or: "
                "`python -m trim evaluate RUN`",
                icon=":material/speed:",
            )
        return
    bars = measured.bars() + recovered_bars(recovered, measured.tokens_sha256)
    without = [bar.label for bar in bars if not math.isfinite(bar.perplexity)]
    bars = [bar for bar in bars if bar.label not in without]
    finding = _perplexity_finding(bars)
    if without:
        finding += f" Not drawn, because not finite: {', '.join(without)}."
    if left_out := len(runs) - len(measured.runs):
        finding += f" {left_out} more {'was' if left_out == 1 else 'were'} not measured on this text."

    def view() -> View:
        return View(
            perplexity_figure(bars, measured.text, theme()),
            finding,
            PERPLEXITY_FORMULA,
            f"Bars of perplexity on {measured.text}",
            lambda: {
                "model": np.array([bar.label for bar in bars], dtype=str),
                "method": np.array([bar.method for bar in bars], dtype=str),
                "perplexity": np.array([bar.perplexity for bar in bars]),
            },
        )

    card(
        "perplexity", {"Perplexity": view}, file_name=file_name, shared=(tuple(bars), measured.text, finding)
    )


def _perplexity_finding(bars: Sequence[PerplexityBar]) -> str:
    pruned = [bar for bar in bars if bar.method != "dense"]
    if not pruned:
        return "No pruned model has a finite perplexity."
    best = min(pruned, key=lambda bar: bar.perplexity)
    lead = f"{best.label} predicts best" if len(pruned) > 1 else best.label
    sentence = f"{lead}: {number(best.perplexity)}"
    if bars[0].method == "dense":
        dense = bars[0].perplexity
        sentence += f", {number(best.perplexity / dense, 3)} times the dense model's {number(dense)}"
    return f"{sentence}.{_captured_text(pruned)}"


def _captured_text(pruned: Sequence[PerplexityBar]) -> str:
    """Describe how much of the gain from uniform to optimal TRIM reaches, if all three were measured."""
    by_method = {bar.method: math.log(bar.perplexity) for bar in reversed(pruned)}
    if not {"uniform", "trim", "optimal"} <= by_method.keys():
        return ""
    share = captured_share(by_method["uniform"], by_method["trim"], by_method["optimal"])
    if share is None:
        return ""
    return f" TRIM went {percent(share, 0)} of the way from uniform to optimal (logarithm of the perplexity)."


def selectable_card(
    key: str,
    variants: Mapping[str, Callable[[], View]],
    file_name: str,
    shown: ModelMap,
    more: Mapping[str, Callable[[], View]] | None = None,
) -> None:
    """Show maps in which a click opens a layer (`open_layer`); `more`: further views on the card."""

    def selected() -> None:
        # The dots of unfinished layers have no names.
        st.session_state["clicked_layers"] = chosen_data(st.session_state[key]["selection"]["points"])

    card(
        key,
        {**variants, **(more or {})},
        file_name=file_name,
        on_select=selected,
        selectable=frozenset(variants),
        clickable=True,
        shared=shown,
        brief=True,
    )


def open_layer(run_id: str, shown: ModelMap, *, drawn: bool) -> None:
    """Open a layer by a click; list several for a box; offer a list for the keyboard, also where no map is `drawn`."""
    clicked = [name for name in st.session_state.pop("clicked_layers", []) if name in shown.by_name]
    if len(clicked) == 1:
        st.switch_page(
            "views/stored_layer.py",
            query_params={"run": run_id, "layer": clicked[0], **presenter_parameters()},
        )
    if not shown.layers:
        return
    names = clicked or list(shown.by_name)
    with st.container(horizontal=True, vertical_alignment="bottom", key="open-layer"):
        chosen = st.selectbox(
            f"Open one of the {len(clicked)} layers in the box"
            if clicked
            else "Open a layer as this run recorded it",
            names,
            index=None,
            placeholder="Click a cell above, or choose here" if drawn else "Choose a layer",
            width=420,
            key="layer_to_open",
        )
        if chosen is not None:
            link("stored_layer", f"Open {literal(chosen)}", "layers", run=run_id, layer=chosen)
            add_to_compare(lambda: [Pick(run_id, chosen)], "add_layer_to_compare")
        if len(clicked) > 1:
            st.button(
                "What do they cost?",
                type="tertiary",
                icon=":material/payments:",
                key="cost_of_box",
                on_click=_ask_costs,
                args=(clicked,),
                help="Each of the layers in the box pruned alone.",
            )


def _ask_costs(names: list[str]) -> None:
    st.session_state["cost_layers"], st.session_state["model_part"] = names, COSTS
