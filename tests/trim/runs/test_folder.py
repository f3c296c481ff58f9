"""The run folder: what is written is what is read, and whatever happens to it has a clear outcome."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

import trim
from diagnostics import concentration, similarity
from tests.trim.runs.conftest import SETTINGS, make_layer, make_record
from trim.cli import main
from trim.files import is_locked
from trim.methods.gini import gini
from trim.models.heads import HeadLayout
from trim.runs.array_files import write_arrays
from trim.runs.folder import list_runs, open_run
from trim.runs.listing import new_run_path
from trim.runs.record import CURVE_POINTS, curve_counts
from trim.runs.recording import layer_record
from trim.runs.run_record import Compute, ModelFacts, TextFacts
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter, write_notes


def with_settings(path, settings):
    """A run whose config.json holds these settings, with their fingerprint."""
    with RunWriter.create(path, settings):
        return path


def test_a_log_on_a_full_disk_says_how_to_resume_and_leaves_the_folder_free(tmp_path):
    with RunWriter.create(tmp_path / "run", SETTINGS) as writer:
        (tmp_path / "run/events.jsonl").symlink_to("/dev/full")
        with pytest.raises(trim.RunError, match=r"events\.jsonl cannot be written \(No space left.*resume"):
            writer.log({"event": "Note"})
    assert not is_locked(tmp_path / "run")


def test_the_heads_of_the_model_are_kept_alongside_the_settings(tmp_path):
    heads = HeadLayout(query=6, key_value=2, size=4)
    with RunWriter.create(tmp_path / "run", SETTINGS, heads=heads):
        assert open_run(tmp_path / "run").heads == heads
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    for facts, expected in (({"query": 6, "key_value": 4, "size": 4}, None), ({"query": 0}, trim.RunError)):
        file.write_text(json.dumps(config | {"heads": facts}))
        if expected is None:
            assert open_run(tmp_path / "run").heads is None, "they are not shared evenly"
        else:
            with pytest.raises(expected, match=r"heads"):
                open_run(tmp_path / "run")


def test_request_and_compute_are_read(folder):
    run = open_run(folder)
    assert run.request == PruneSettings("demo", 0.5)
    assert (run.model, run.text) == (ModelFacts("demo", "0"), TextFacts(32, "0"))
    assert run.compute == Compute("cpu", "a processor", "float32", 2, 2)
    assert run.record.to_json() == run.settings
    assert run.record.versions["torch"] == torch.__version__


def test_a_run_with_an_option_that_is_gone(tmp_path):
    """It can be read where the option was off."""
    request = SETTINGS["request"] | {"second_pass": False}
    assert open_run(
        with_settings(tmp_path / "off", SETTINGS | {"request": request})
    ).request == PruneSettings("demo", 0.5)
    with pytest.raises(trim.RunError, match="second_pass"):
        open_run(with_settings(tmp_path / "on", SETTINGS | {"request": request | {"second_pass": True}}))


def test_a_run_from_before_an_option_existed(tmp_path):
    request = {key: value for key, value in SETTINGS["request"].items() if key not in ("refit", "tune")}
    compute = {key: value for key, value in SETTINGS["compute"].items() if key not in ("batch", "threads")}
    text = {key: value for key, value in SETTINGS["text"].items() if key != "given"}
    settings = {key: value for key, value in SETTINGS.items() if key != "budget_file"}
    settings |= {"request": request, "compute": compute, "text": text}
    run = open_run(with_settings(tmp_path / "run", settings))
    assert run.request == PruneSettings("demo", 0.5)
    assert run.settings == settings
    assert (run.compute.batch, run.compute.threads, run.text.given) == (None, None, False)
    with pytest.raises(trim.RunError, match="lacks the batch or the threads"):
        trim.resume(run.path)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("request", {"temperature": 1}, "another version of TRIM Lab: this one does not know 'temperature'"),
        ("request", {"iterations": "many"}, "request.iterations must be int, not 'many'"),
        ("request", {"refit": 1}, "request.refit must be bool, not 1"),
        ("request", {"layers": "*"}, r"request.layers must be a list, not '\*'"),
        ("request", {"target": 2}, "above 0 and below 1"),
        ("compute", {"batch": "2"}, "compute.batch must be int or null, not '2'"),
        ("model", {"title": None}, "model.title must be str, not None"),
        ("versions", {"torch": 2}, "versions.torch must be str, not 2"),
    ],
)
def test_settings_that_cannot_be(tmp_path, part, change, message):
    path = with_settings(tmp_path / "run", SETTINGS | {part: SETTINGS[part] | change})
    with pytest.raises(trim.RunError, match=message) as error:
        open_run(path)
    assert str(error.value).startswith(str(path / "config.json"))
    (entry,) = list_runs(tmp_path)
    assert entry.opened is None


@pytest.mark.parametrize("part", ["request", "model", "text", "compute", "versions"])
def test_settings_that_lack_a_part(tmp_path, part):
    path = with_settings(tmp_path / "run", {key: value for key, value in SETTINGS.items() if key != part})
    with pytest.raises(trim.RunError, match=f"settings.{part} is missing"):
        open_run(path)


def test_what_is_written_is_what_is_read(folder):
    record, curves, result = make_record()
    run = open_run(folder)
    assert (run.kind, run.complete, run.blocks, run.layers) == ("layer", True, [2], ["2.mlp.up_proj"])
    assert run.settings == SETTINGS
    assert run.name == "a <b>name</b>"
    assert run.metrics["sparsity"]["realised"] == record.sparsity == 0.5
    assert [event["event"] for event in run.events()] == ["begun"]
    read = run.layer("2.mlp.up_proj")
    for key in ("counts", "gini", "weight_norm", "cosine", "cosine_uniform", "cosine_curve", "dead_rows"):
        np.testing.assert_array_equal(getattr(read, key), getattr(record, key))
        np.testing.assert_array_equal(run.array(read.name, key), getattr(record, key))
    for key in ("rates", "quality", "row_variance", "row_sparsity"):
        np.testing.assert_array_equal(getattr(read.search, key), getattr(record.search, key))
    assert read.search.tried == tuple(result.tried)
    assert read.search.learning_rate == result.learning_rate
    np.testing.assert_array_equal(read.counts, result.counts)
    np.testing.assert_array_equal(read.uniform_counts, result.uniform_counts)
    np.testing.assert_array_equal(read.keep(), trim.keep_mask(curves.ranks, result.counts))
    np.testing.assert_allclose(read.cosine, curves.at(result.counts).cosine, atol=1e-6)
    assert read.realised_quality == pytest.approx(result.realised_quality)
    assert read.dead_rows.tolist() == [row == 3 for row in range(12)]
    assert np.isnan(read.gini[3])
    assert run.block(2)["2.mlp.up_proj"].sparsity == 0.5
    assert run.layer("2.mlp.up_proj", mask=False).packed_mask is None


def test_the_kept_row_sparsity_ends_where_the_search_did():
    record, _, result = make_record()
    np.testing.assert_allclose(
        record.search.row_sparsity[record.search.best_iteration], result.row_sparsity, atol=1e-7
    )


def test_a_noiseless_layer_has_infinite_quality_and_is_kept(tmp_path):
    counts = torch.zeros(4, dtype=torch.int64)
    record = layer_record(
        "0.up",
        make_layer(rows=4, columns=40),
        counts,
        budget=0.0,
        allocation="uniform",
        score_name="wanda",
        quality_measure="snr",
    )
    with RunWriter.create(tmp_path / "run", SETTINGS) as writer:
        writer.write_block(0, [record])
    assert open_run(tmp_path / "run").layer("0.up").realised_quality == np.inf


def test_gini_and_curve_points_are_those_of_the_figures():
    score = torch.rand(7, 50).square()
    score[2] = 0
    score[3] = 1
    expected = concentration.gini(score.numpy())
    np.testing.assert_allclose(gini(score), expected, atol=1e-12)
    np.testing.assert_allclose(gini(score, score.argsort(dim=1)), expected, atol=1e-12)
    for columns in (1, 5, 33, 64, 576, 11008):
        np.testing.assert_array_equal(curve_counts(columns), similarity.sparsity_grid(columns, CURVE_POINTS))


def test_names_and_notes_change_without_the_record(folder):
    before = (folder / "config.json").read_bytes()
    write_notes(folder, name=" second ", note="<script>\nÄ")
    run = open_run(folder)
    assert (run.name, run.notes["note"]) == ("second", "<script>\nÄ")
    assert (folder / "config.json").read_bytes() == before


def test_lists_name_what_cannot_be_opened(folder):
    (folder.parent / "no run").mkdir()
    broken = folder.parent / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    entries = {entry.path.name: entry for entry in list_runs(folder.parent)}
    assert set(entries) == {"run", "broken"}
    assert entries["run"].opened.name == "a <b>name</b>"
    assert "damaged" in entries["broken"].problem
    assert list_runs(folder.parent / "missing") == []


def test_new_runs_get_folders_of_their_own(tmp_path):
    first = new_run_path(tmp_path, "Ärger / ../<b>")
    assert first.parent == tmp_path
    assert first.name.startswith("arger-b-")
    first.mkdir()
    assert new_run_path(tmp_path, "Ärger / ../<b>") != first
    assert new_run_path(tmp_path, "日本").name.startswith("run-")


def test_unknown_layers_and_blocks(folder):
    run = open_run(folder)
    assert "2.mlp.up_proj" in run
    assert "2.mlp.up" not in run
    with pytest.raises(trim.RunError, match=r"closest names: 2\.mlp\.up_proj"):
        run.layer("2.mlp.up")
    with pytest.raises(trim.RunError, match="resume"):
        run.block(7)
    with pytest.raises(trim.RunError, match="keeps no packed"):
        run.array("2.mlp.up_proj", "packed")


def test_a_run_is_never_overwritten(folder):
    before = (folder / "config.json").read_bytes()
    with pytest.raises(trim.RunError, match=r"other settings \(request\.target\)"):
        RunWriter.create(folder, SETTINGS | {"request": SETTINGS["request"] | {"target": 0.6}})
    with pytest.raises(trim.RunError, match="this very run already, complete"):
        RunWriter.create(folder, SETTINGS)
    assert (folder / "config.json").read_bytes() == before
    (folder.parent / "full").mkdir()
    (folder.parent / "full" / "thesis.tex").touch()
    with pytest.raises(trim.RunError, match=r"thesis\.tex"):
        RunWriter.create(folder.parent / "full", SETTINGS)


def test_a_file_that_may_not_be_read_is_not_called_damaged(folder, monkeypatch):
    def denied(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(trim.RunError, match=r"cannot be read \(Permission denied\); check its permissions"):
        open_run(folder)


def test_a_block_that_may_not_be_read_is_not_called_damaged(folder, monkeypatch):
    def denied(path: Path, *mode: str, **more: object) -> object:
        if path.suffix == ".safetensors":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *mode, **more)

    opened, run = Path.open, open_run(folder)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(trim.RunError, match=r"safetensors cannot be read \(Permission denied\); check"):
        run.layer(run.layers[0])
    monkeypatch.undo()
    assert run.layer(run.layers[0]).name == run.layers[0]


def test_one_damaged_file_does_not_end_a_list(folder, capsys):
    (folder / "notes.json").write_text("{")
    assert main(["inspect", str(folder.parent)]) == 0
    assert "notes.json is damaged" in capsys.readouterr().out


def test_folders_of_others_are_named_and_not_listed(folder):
    model = folder.parent / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(trim.RunError, match=r"may be that of a model; choose another"):
        open_run(model)
    assert [entry.path for entry in trim.list_runs(folder.parent)] == [folder]
    for file, message in (("recovery.json", "is a recovery"), ("sweep.json", "one of its runs in .*cells")):
        (model / file).touch()
        with pytest.raises(trim.RunError, match=message):
            open_run(model)
        (model / file).unlink()
    with pytest.raises(trim.ModelError, match=r"is a run, and this needs a model.*trim export"):
        trim.describe_model(folder)


def test_half_a_line_of_events_is_passed_over(folder):
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"event": "blo')
    assert [event["event"] for event in open_run(folder).events()] == ["begun"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "run"
    RunWriter.create(path, SETTINGS).__exit__()
    (path / "blocks").mkdir(exist_ok=True)
    left = [path / f".manifest.json-{'a' * 12}", path / "blocks" / f".000.safetensors-{'0' * 12}"]
    left += [path / ".activations-x3", path / "blocks" / "000.safetensors"]
    for file in left:
        file.touch()
    RunWriter.reopen(path).__exit__()
    assert not [file for file in left if file.exists()]


def test_arrays_are_written_as_safetensors_writes_them(tmp_path):
    arrays = {
        "b/x": np.arange(6, dtype=np.int32).reshape(2, 3),
        "a/é": np.ones((3, 5), np.float16)[:, ::2],
        "z": np.array([True, False, True]),
        "m": np.linspace(0, 1, 4),
        "empty": np.zeros(0, np.float16),
        "g": np.ones(3, np.float32),
        "u": np.arange(7, dtype=np.uint8),
    }
    size, digest = write_arrays(tmp_path / "file", arrays, {"trim": '{"k": "é"}'})
    content = save(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()}, metadata={"trim": '{"k": "é"}'}
    )
    assert (tmp_path / "file").read_bytes() == content
    assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_block_is_not_committed_where_the_one_before_it_failed(tmp_path):
    with RunWriter.create(tmp_path / "run", SETTINGS) as writer, pytest.raises(ZeroDivisionError):
        writer.write_block(2, [make_record()[0]], after=lambda: 1 / 0)
    assert not open_run(tmp_path / "run").blocks
