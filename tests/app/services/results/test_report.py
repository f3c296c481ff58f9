"""The report of a run: every figure and number of it, also of one on its way or kept of a single layer."""

import contextlib
import re
import shlex

import numpy as np
import pytest

import trim
from app.services.results.report import run_report
from app.services.results.tables import row_columns
from app.services.runs.commands import reproduce
from diagnostics.export import arrays_npz, table_csv
from tests.app.small_runs import make_run, record, settings
from trim.cli import main
from trim.errors import RunError
from trim.runs.folder import Run, open_run
from trim.runs.writer import RunWriter

EVIL = "<script>alert(1)</script>"
TEXT = {"corpus": "demo", "whole": False, "windows": 2, "length": 16, "tokens_sha256": "1" * 64}
METRICS = {
    "perplexities": [{"perplexity": 500.25, **TEXT}],
    "dense_perplexities": [{"perplexity": 20.5, **TEXT}],
    "uniform_perplexities": [{"perplexity": "inf", **TEXT}],
    "continuations": [{"prompt": f"Once {EVIL}", "texts": {"dense": "upon a time", "trim": EVIL}}],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "first"
    return trim.open_run(make_run(path, name=f"First {EVIL}", note=f"Note {EVIL}", metrics=METRICS))


def own_part(report: bytes) -> str:
    return re.sub(r"<script>.*?</script>", "", report.decode(), count=1, flags=re.S)


def headings(report: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", report)


def test_report_of_a_run_by_trim(run):
    report = own_part(run_report(run, ["1.mlp.gate_proj"]))
    assert EVIL not in report
    # Perplexity, seven maps, outcomes against Gini; twelve charts of the layer.
    assert len(headings(report)) == len(re.findall(r"Plotly.newPlot\(", report)) == 9 + 12
    folded = re.findall(r"<details ontoggle.*?</details>", report, flags=re.S)
    assert [len(headings(each)) for each in folded] == [5, 8], "what is open are four charts each"
    assert 'href="#Layer-1.mlp.gate_proj"' in report
    assert 'id="Layer-1.mlp.gate_proj"' in report
    for words in (
        "First &lt;script&gt;",
        "Note &lt;script&gt;",
        "500.2",
        "20.5",
        "infinite",
        "upon a time",
        "50.0000% (requested: 50.0000%)",
        "python -m trim prune demo --target 0.5",
        "python -m trim evaluate runs/first-again --corpus demo --windows 2 --length 16",
        run.fingerprint,
        "versions, torch",
        "4 layers",
        "Layer 1.mlp.gate_proj",
    ):
        assert words in report


@pytest.mark.parametrize("allocation", ["uniform", "optimal"])
def test_report_of_other_methods(tmp_path, allocation):
    run = trim.open_run(make_run(tmp_path / "other", allocation))
    report = own_part(run_report(run, run.layers[:1]))
    assert len(headings(report)) == 6 + (6 if allocation == "uniform" else 9)
    assert "not searched" in report


def test_report_of_a_run_on_its_way(tmp_path):
    run = trim.open_run(make_run(tmp_path / "stopped", blocks=1))
    report = own_part(run_report(run, run.layers[:1]))
    assert "unfinished: 1 block done" in report
    assert "2 layers" in report
    empty = own_part(run_report(trim.open_run(make_run(tmp_path / "begun", blocks=0)), []))
    assert headings(empty) == []


def test_report_of_a_kept_layer(tmp_path):
    with RunWriter.create(tmp_path / "kept", settings(), kind="layer", name="kept") as writer:
        writer.write_block(3, [record("3.mlp.up_proj")])
        run = writer.finish({"layer_sparsity": {"requested": 0.5, "realised": 0.5}})
    report = own_part(run_report(run, run.layers))
    assert "a run of a single layer" in report
    assert "sparsity of the layer" in report
    assert len(headings(report)) == 12


def test_report_of_a_damaged_run(tmp_path):
    run = trim.open_run(make_run(tmp_path / "bad"))
    (run.path / "blocks/000.safetensors").unlink()
    with pytest.raises(RunError, match="damaged"):
        run_report(run, [])


def test_rows_of_a_run_that_claims_many(run):
    claims = open_run(run.path)
    claims.numbers(run.layers[0])["rows"] = 2**31 - 1  # as if its file said so
    with pytest.raises(RunError, match="counts"):
        row_columns(claims)


def test_rows_of_every_layer(run):
    columns = row_columns(run)
    assert {values.shape for values in columns.values()} == {(4 * 12,)}
    second = columns["layer"] == run.layers[1]
    np.testing.assert_array_equal(columns["counts"][second], run.layer(run.layers[1]).counts)
    np.testing.assert_array_equal(columns["row_sparsity"], columns["counts"] / 40)
    assert table_csv(columns).count(b"\r\n") == 49
    assert arrays_npz(columns)


def test_the_command_is_understood(run, monkeypatch):
    asked = []

    def prune(*given: object, **fields: object) -> None:
        asked.append((given, fields))
        raise KeyboardInterrupt  # the command need not go on

    monkeypatch.setattr("trim.pruning.prune.prune", prune)
    command = reproduce(run).splitlines()[0]
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        main(shlex.split(command.removeprefix("python -m trim ")))
    (((model, _, settings), _),) = asked
    assert (model, settings) == (run.request.model, run.request)
