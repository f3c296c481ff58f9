"""An option is declared in one place, and every part of the product that speaks of options has it."""

import os
import subprocess
import sys

import pytest

from tests import forks
from trim.runs.options import Option, idle_options, options
from trim.runs.settings import PruneSettings
from trim.sweeps.settings import GRID_OPTIONS, SHARED_OPTIONS

# The settings class with one more option, in place before anything reads it.
DECLARED = """
import dataclasses, sys

# A fork has imported torch, and our own modules too: those are imported anew.
for name in [name for name in sys.modules if name.partition(".")[0] in ("trim", "app", "diagnostics", "tests")]:
    del sys.modules[name]
from trim.runs import settings as module
from trim.runs.options import option


@dataclasses.dataclass(frozen=True)
class More(module.PruneSettings):
    shine: float = option(
        0.5, help="how much the rows shine", label="Shine of rows", group="method", limits=(0.0, 1.0),
        short="shine {}", varies=True, idle=lambda settings: settings.allocation == "uniform",
    )


module.PruneSettings = More
"""

USED = """
import contextlib, io, pathlib, sys
from trim import cli


def helped(*command):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        cli.main([*command, "--help"])
    return " ".join(said.getvalue().split())

assert "--shine SHINE how much the rows shine (default: 0.5)" in helped("prune")
assert "--shines SHINE [SHINE ...] how much the rows shine" in helped("sweep")

chosen = cli.make_parser().parse_args(["prune", "demo", "--target", "0.7", "--shine", "0.25"])
assert chosen.shine == 0.25

from trim.sweeps.settings import SweepSettings
from trim.sweeps.results import _label
sweep = SweepSettings("demo", {"target": (0.5,), "allocation": ("trim", "uniform"), "shine": (0.25, 0.75)})
ids = [cell.id for cell in sweep.cells]
assert ids[:2] == ["wanda-trim-uniform-shine0.25-0.5", "wanda-trim-uniform-shine0.75-0.5"], ids
assert ids[2:] == ["wanda-uniform-uniform-0.5"], ids
methods = [cell.grid_values for cell in sweep.cells]
named = {name: value for name, value in methods[0].items() if name not in ("seed", "target")}
assert _label(named).endswith("shine 0.25")
assert SweepSettings.from_json(sweep.to_json()) == sweep

from app.services.results.sweep_curves import brief_labels
assert brief_labels(methods) == ["TRIM, shine 0.25", "TRIM, shine 0.75", "Wanda"], brief_labels(methods)

from app.services.runs.commands import arguments
settings = More("demo", 0.7, shine=0.25)
assert arguments(settings) == ["demo", "--target", "0.7", "--shine", "0.25"]
assert More.from_json(settings.to_json()) == settings

from app.services.results import compared as service
from app.services.results import picks as picking
from app.services.runs import estimate
from app.services.runs.store import STORE
from tests.app import small_runs

folder = pathlib.Path(sys.argv[1])
for number, shine in enumerate((0.25, 0.75)):
    real = small_runs.PruneSettings
    small_runs.PruneSettings = lambda *given, **named: More(*given, **named, shine=shine)
    small_runs.make_run(folder / f"run{number}", name=f"run {number}")
    small_runs.PruneSettings = real
entries = {entry.id: entry for entry in STORE.runs()}
assert entries["run0"].opened().request.shine == 0.25
picks = [service.read_slot(STORE, "AB"[n], picking.Pick(f"run{n}", "0.mlp.gate_proj")) for n in range(2)]
(line,) = [line for line in service.settings(picks) if line.name == "Shine of rows"]
assert line.differs and line.values == ("0.25", "0.75"), line

request = entries["run1"].opened().request
runs = [entries["run0"], entries["run1"]]
assert estimate.estimated_seconds(request, runs) == 1.0
assert estimate.estimated_seconds(request, runs[:1]) is None

from streamlit.testing.v1 import AppTest

test = AppTest.from_string(sys.argv[2], default_timeout=60).run()
assert not test.exception, test.exception
assert test.number_input(key="new_shine").label == "Shine of rows"
assert test.number_input(key="new_shine").value == 0.25
assert "--shine 0.25" in test.code[0].value
test.number_input(key="new_shine").set_value(0.75).run()
assert "--shine 0.75" in test.code[0].value
assert "took 1 s" in " ".join(each.value for each in test.caption)
print("seen everywhere")
"""


PAGE = """
import streamlit as st
from app.services.runs.store import STORE
from app.ui.model.new_run import new_run_form
from app.ui.model.prefill import prefill
if not st.session_state.get("filled"):
    prefill("run0")
    st.session_state["filled"] = True
new_run_form(["cpu"], STORE.runs())
"""


@pytest.mark.slow
def test_an_option_added_in_one_place_is_seen_everywhere(tmp_path):
    runs = str(tmp_path / "runs")
    process = forks.Popen(
        [sys.executable, "-c", DECLARED + USED, runs, PAGE],
        stdout=subprocess.PIPE,
        env=os.environ | {"TRIM_RUNS": runs, "TRIM_CACHE": str(tmp_path)},
    )
    with process.stdout as output:
        printed = output.read()
    assert process.wait() == 0, printed
    assert printed.splitlines()[-1] == "seen everywhere"


def test_every_field_is_an_option_with_a_help_text():
    known = options(PruneSettings)
    assert list(known) == list(PruneSettings.__dataclass_fields__)
    assert set(GRID_OPTIONS) | set(SHARED_OPTIONS) | {"model", "pattern"} == set(known)
    for each in known.values():
        assert each.help
        assert not each.help.endswith(".")
        assert each.help[0].islower() or each.help.startswith(("OWL", "AlphaPruning", '"demo"', "n zeros"))
        assert set(each.meanings) <= set(each.choices)
    assert len({each.label for each in known.values()}) == len(known)
    assert len({each.flag for each in known.values()}) == len(known)


@pytest.mark.parametrize("name", [name for name, each in options(PruneSettings).items() if each.choices])
def test_every_choice_is_explained(name):
    each = options(PruneSettings)[name]
    assert set(each.meanings) == set(each.choices)


RATES = "learning_rates negative_learning_rates iterations row_quality recalculation"
OWL, ALPHA = "owl_width owl_multiple", "alpha_width alpha_fit"


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({}, f"{OWL} {ALPHA} row_weights sensitivity_windows recalculation tune"),
        (
            {"allocation": "optimal", "budget": "owl", "refit": True},
            f"{ALPHA} {RATES} recalculate_inputs",
        ),
        (
            {"allocation": "solved"},
            f"{OWL} {ALPHA} {RATES} recalculate_inputs refit score vectors_per_sequence input_vectors",
        ),
        (
            {"allocation": "sparsegpt", "budget": "optimal", "row_weights": "ones"},
            f"{OWL} {ALPHA} {RATES} refit tune",
        ),
        (
            {"allocation": "uniform", "score": "magnitude", "budget": "alphapruning"},
            f"{OWL} {RATES} row_weights sensitivity_windows recalculate_inputs "
            "vectors_per_sequence input_vectors seed tune",
        ),
    ],
)
def test_what_is_idle(settings, idle):
    assert idle_options(PruneSettings("demo", 0.7, **settings)) == set(idle.split())


def of(name: str) -> Option:
    return options(PruneSettings)[name]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("target", 0.7, "70%"),
        ("max_row_sparsity", None, "95%, or 99% where anything is optimal or solved"),
        ("refit", True, "yes"),
        ("layers", ("*.mlp.*", "0.*"), "*.mlp.*, 0.*"),
        ("learning_rates", (0.01, 0.02), "0.01, 0.02"),
        ("negative_learning_rates", (), "none"),
        ("owl_width", 0.08, "0.08"),
        ("windows", 128, "128"),
        ("device", None, "a GPU where there is one"),
    ],
)
def test_values_as_people_read_them(name, value, text):
    assert of(name).text(value) == text
