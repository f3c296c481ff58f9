"""Every option of the search, in the side bar."""

from typing import Any, TypedDict, cast

import streamlit as st

import trim
from app.ui.common.option_fields import as_rates, as_text, option_widget
from app.ui.common.segments import segments
from trim.runs.options import options
from trim.runs.settings import PruneSettings

_OPTIONS = options(PruneSettings)
DEFAULTS = trim.SearchSettings  # the class: its attributes are the defaults of the options
ROW_WEIGHT_WORDS = {
    "all alike": "the optimum minimises the error of the layer's output",
    "Fisher": "the optimum minimises an estimate of the model's loss: each row counts by its sensitivity, the mean "
    "square of the loss's gradient in its output, from a few backward passes (once; on a CPU a minute or two)",
}
SHOWN = {"TRIM": ("trim",), "Optimal": ("optimal",), "Both": ("trim", "optimal")}


# Names in the address of options that a run has too; the row cap here is TRIM's alone.
IN_ADDRESS = {
    "layer_quality": "layer_quality",
    "row_quality": "row_quality",
    "iterations": "iterations",
    "learning_rates": "rates",
    "negative_learning_rates": "negative_rates",
}


class SearchOptions(TypedDict):
    """Options of the search as they were typed."""

    layer_quality: str
    row_quality: str
    iterations: int
    learning_rates: str
    negative_learning_rates: str
    max_row_sparsity: float


def choose_search_options() -> SearchOptions:
    """Show the side bar's search options, and return them as typed; `settings` parses them."""
    with st.sidebar.popover("Search options", icon=":material/tune:", width="stretch"):
        typed = {
            name: option_widget(_OPTIONS[name], key, bind="query-params") for name, key in IN_ADDRESS.items()
        }
        cap = st.number_input(
            "Largest row sparsity, TRIM (%)",
            1,
            100,
            round(100 * DEFAULTS.max_row_sparsity),
            key="cap",
            bind="query-params",
            help="No row loses more than this share of its weights. The optimum has a cap of its own: 99%, or this one "
            "where it is higher.",
        )
        return cast(SearchOptions, {**typed, "max_row_sparsity": cap / 100})


def default_options() -> SearchOptions:
    """Return the default search options."""
    values = {name: getattr(DEFAULTS, name) for name in SearchOptions.__annotations__}
    typed = {name: as_text(each) if isinstance(each, tuple) else each for name, each in values.items()}
    return cast(SearchOptions, typed)


def fisher_wanted() -> bool:
    """Choose in the side bar whether the optimum weighs rows by their sensitivities."""
    with st.sidebar.popover("Optimal allocation", icon=":material/balance:", width="stretch"):
        chosen = segments(
            "Row weights of the optimum",
            ROW_WEIGHT_WORDS,
            "row_weights",
            default="all alike",
            bind="query-params",
            labelled=True,
            help="The weight of an error in a row's output."
            + "".join(f"\n- `{name}`: {meaning}" for name, meaning in ROW_WEIGHT_WORDS.items()),
        )
        st.caption("Rows may lose up to 99% under the optimum, and up to TRIM's own cap (95%) under TRIM.")
    return chosen == "Fisher"


def choose_shown() -> frozenset[str]:
    """Choose the methods whose allocation the charts show: uniform, and TRIM or the optimum or both."""
    chosen = segments(
        "Beside uniform",
        SHOWN,
        "shown",
        default="TRIM",
        bind="query-params",
        labelled=True,
        help="Which allocation the charts, the inspector and the masks show. The table of rows always has all three.",
    )
    return frozenset(("uniform", *SHOWN[chosen]))


def settings(target_sparsity: float, options: SearchOptions) -> trim.SearchSettings:
    """Return the settings of a search.

    Raises:
        SettingsError: the options do not fit together; the message says what to do.
    """
    parsed: dict[str, Any] = dict(options)
    for name in ("learning_rates", "negative_learning_rates"):
        parsed[name] = as_rates(parsed[name])
    return trim.SearchSettings(target_sparsity, **parsed)
