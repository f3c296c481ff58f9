"""Every option of the search, in the side bar."""

from typing import TypedDict

import streamlit as st

import trim
from app.ui.common.address import Bind
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


class SearchFields(TypedDict):
    """Options of the search as they were typed, apart from the row cap."""

    layer_quality: str
    row_quality: str
    iterations: int
    learning_rates: str
    negative_learning_rates: str


class SearchOptions(SearchFields):
    """All of them."""

    max_row_sparsity: float


def as_text(rates: tuple[float, ...]) -> str:
    """Format learning rates as they are typed."""
    return ", ".join(f"{rate:g}" for rate in rates)


def as_rates(text: str) -> tuple[float, ...]:
    """Parse typed learning rates.

    Raises:
        SettingsError: one of them is not a number.
    """
    rates = []
    for part in filter(None, text.replace(";", ",").replace("−", "-").replace(" ", ",").split(",")):
        try:
            rates.append(float(part))
        except ValueError:
            raise trim.SettingsError(
                f"Type learning rates as numbers with commas between them; “{part[:20]}” is not a number."
            ) from None
    return tuple(rates)


def choose_search_options() -> SearchOptions:
    """Show the side bar's search options, and return them as typed; `settings` makes sense of them."""
    with st.sidebar.popover("Search options", icon=":material/tune:", width="stretch"):
        options = search_fields(bind="query-params")
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
        return {**options, "max_row_sparsity": cap / 100}


def default_options() -> SearchOptions:
    """Return the search options where nothing was changed."""
    return {
        "layer_quality": DEFAULTS.layer_quality,
        "row_quality": DEFAULTS.row_quality,
        "iterations": DEFAULTS.iterations,
        "learning_rates": as_text(DEFAULTS.learning_rates),
        "negative_learning_rates": as_text(DEFAULTS.negative_learning_rates),
        "max_row_sparsity": DEFAULTS.max_row_sparsity,
    }


def fisher_wanted() -> bool:
    """Choose in the side bar whether the optimum's row weights are the rows' sensitivities."""
    with st.sidebar.popover("Optimal allocation", icon=":material/balance:", width="stretch"):
        chosen = st.segmented_control(
            "Row weights of the optimum",
            list(ROW_WEIGHT_WORDS),
            default="all alike",
            required=True,
            key="row_weights",
            bind="query-params",
            help="What an error in a row's output counts for."
            + "".join(f"\n- `{name}`: {meaning}" for name, meaning in ROW_WEIGHT_WORDS.items()),
        )
        st.caption("Rows may lose up to 99% under the optimum, and up to TRIM's own cap (95%) under TRIM.")
    return chosen == "Fisher"


def choose_shown() -> frozenset[str]:
    """Choose the methods whose allocation the charts show: uniform, and TRIM or the optimum or both."""
    chosen = st.segmented_control(
        "Beside uniform",
        list(SHOWN),
        default="TRIM",
        required=True,
        key="shown",
        bind="query-params",
        help="Which allocation the charts, the inspector and the masks show. The table of rows always has all three.",
    )
    return frozenset(("uniform", *SHOWN[chosen or "TRIM"]))


def search_fields(bind: Bind = None) -> SearchFields:
    """Show the options of TRIM's search apart from the row cap, whose default is not everywhere the same.

    Args:
        bind: "query-params" where the address shall hold them.
    """
    return {
        "layer_quality": st.selectbox(
            _OPTIONS["layer_quality"].label,
            list(trim.LAYER_QUALITIES),
            key="layer_quality",
            bind=bind,
            help=_OPTIONS["layer_quality"].sentence,
        ),
        "row_quality": st.selectbox(
            _OPTIONS["row_quality"].label,
            list(trim.ROW_QUALITIES),
            key="row_quality",
            bind=bind,
            help=_OPTIONS["row_quality"].sentence,
        ),
        "iterations": st.number_input(
            _OPTIONS["iterations"].label, 1, 100, DEFAULTS.iterations, key="iterations", bind=bind
        ),
        "learning_rates": st.text_input(
            _OPTIONS["learning_rates"].label,
            as_text(DEFAULTS.learning_rates),
            max_chars=200,
            key="rates",
            bind=bind,
        ),
        "negative_learning_rates": st.text_input(
            _OPTIONS["negative_learning_rates"].label,
            as_text(DEFAULTS.negative_learning_rates),
            max_chars=200,
            key="negative_rates",
            bind=bind,
        ),
    }


def settings(target_sparsity: float, options: SearchOptions) -> trim.SearchSettings:
    """Return the settings of a search.

    Raises:
        SettingsError: they do not fit together; the message says what to do.
    """
    return trim.SearchSettings(
        target_sparsity,
        as_rates(options["learning_rates"]),
        as_rates(options["negative_learning_rates"]),
        options["iterations"],
        options["layer_quality"],
        options["row_quality"],
        options["max_row_sparsity"],
    )
