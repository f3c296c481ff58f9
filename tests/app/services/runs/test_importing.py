"""Importing a run: a good zip is the run it was, a bad one leaves nothing and says why."""

import io
import json
import math
import shutil
import stat
import struct
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from safetensors.numpy import save

import trim
from app.services.layer.keep import keep
from app.services.layer.keys import SignalKey
from app.services.runs import importing as module
from app.services.runs.files import exported, exported_recovery
from app.services.runs.importing import import_run
from tests.app.small import study
from tests.app.small_runs import make_recovery, make_run, record, refitted, settings
from trim.errors import RunError
from trim.files import FolderLock
from trim.runs.diagnosis_files import read_layer_diagnoses, signal_from_json, update_layer_diagnoses
from trim.runs.diagnosis_shapes import TargetCounts
from trim.runs.writer import RunWriter

TARGETS: list[TargetCounts] = [{"method": "trim", "targets": [0.5], "counts": [[20] * 12]}]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good zip by their names inside the run's folder."""
    run = trim.open_run(make_run(tmp_path_factory.mktemp("made") / "first", name="First"))
    update_layer_diagnoses(run.path, "1.mlp.gate_proj", {"targets": TARGETS})
    with exported(run, masks=True) as file, zipfile.ZipFile(file) as archive:
        return {name.removeprefix("first/"): archive.read(name) for name in archive.namelist()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def packed(files: dict[str, bytes], top: str = "first/") -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return file


def bring(file: io.BytesIO, folder: Path, *taken: str) -> Path:
    return import_run(file, folder, taken.__contains__, "a zip.zip")


def refused(file: io.BytesIO, folder: Path, message: str) -> None:
    with pytest.raises(RunError, match=message) as caught:
        bring(file, folder)
    assert "Nothing of it was kept." in str(caught.value)
    assert str(folder) not in str(caught.value)
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("top", ["first/", "", "a/b/first/"])
def test_a_good_zip_is_the_run_it_was(good, folder, top):
    path = bring(packed(good, top), folder)
    run = trim.open_run(path)
    assert run.name == "First"
    assert run.complete
    assert len(run.layers) == 4
    assert run.layer("1.mlp.gate_proj").packed_mask is not None
    assert read_layer_diagnoses(run, "1.mlp.gate_proj") == {"targets": TARGETS}
    assert sorted(each.name for each in folder.iterdir()) == [path.name]
    if top == "first/":
        assert path.name == "first"


@pytest.mark.parametrize("allocation", ["uniform", "optimal"])
@pytest.mark.parametrize("blocks", [1, 2])
def test_other_methods_and_runs_on_their_way(folder, tmp_path, allocation, blocks):
    run = trim.open_run(make_run(tmp_path / "made/other", allocation, blocks=blocks))
    update_layer_diagnoses(run.path, run.layers[0], {"targets": TARGETS})
    with exported(run, masks=False) as file:
        again = trim.open_run(bring(file, folder))
    assert (again.config, again.complete, again.blocks) == (run.config, blocks == 2, run.blocks)
    assert read_layer_diagnoses(again, run.layers[0]) == {"targets": TARGETS}


def test_a_layer_kept_from_the_layer_page(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "kept"))
    layer, settings = study(), trim.SearchSettings(0.5)
    sparsity = np.linspace(0, 1, 2 * layer.rows).reshape(2, -1)
    signal = trim.RowSignal(
        (sparsity * layer.columns).round() / layer.columns, sparsity, (0.01, None), ("1", "2")
    )
    asked = SignalKey(layer.key, settings, "windows", 2, 7)
    run = trim.open_run(keep(layer, layer.outcome(settings), "trim", "Kept", (asked, signal)))
    with exported(run, masks=True) as file:
        again = trim.open_run(bring(file, folder))
    assert (again.id, again.kind, again.name) == (run.id, "layer", "Kept")
    found = signal_from_json(read_layer_diagnoses(again, layer.key.layer)["signal"], layer.columns)
    assert (found.sparsity == signal.sparsity).all()
    assert (found.gini == signal.gini).all()
    assert (found.rates, found.titles) == (signal.rates, signal.titles)


@pytest.mark.parametrize("masks", [True, False])
def test_a_refitted_run(folder, tmp_path, masks):
    with RunWriter.create(tmp_path / "made/first", settings()) as writer:
        writer.write_block(0, [refitted(record("0.mlp.gate_proj"))])
    with exported(trim.open_run(tmp_path / "made/first"), masks=masks) as file:
        layer = trim.open_run(bring(file, folder)).layer("0.mlp.gate_proj")
    assert (layer.kept_weights is not None) == masks
    assert layer.error_left == 0.875


def test_what_archivers_add_is_passed_over(good, folder):
    extra = {"lock": b"12", ".DS_Store": b"\0", "calibration.safetensors": b"x"}
    file = packed(good | extra)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("__MACOSX/first/._config.json", b"\0")
        archive.mkdir("first/empty")
    assert sorted(each.name for each in bring(file, folder).iterdir()) == sorted(
        {name.partition("/")[0] for name in good}
    )


def test_an_id_that_is_taken_gets_another(good, folder):
    assert bring(packed(good), folder, "first").name != "first"
    assert bring(packed(good), folder).name == "first"
    third = bring(packed(good), folder)
    assert third.name.startswith("first-")
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    "path",
    [
        "../evil.json",
        "/etc/evil.json",
        "first/../../evil.json",
        "C:/evil.json",
        "first//x",
        "first/./x",
        "a\nb",
    ],
)
def test_paths_that_lead_elsewhere(good, folder, tmp_path, path):
    file = packed(good)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(path), b"x")
    refused(file, folder, "outside of the run")
    assert not list(tmp_path.rglob("evil*"))


def test_a_path_with_backslashes(good, folder):
    content = packed(good | {"XXevil.json": b"x"}).getvalue().replace(b"first/XXevil", b"first\\..\\evil")
    refused(io.BytesIO(content), folder, "outside of the run|damaged")


def test_a_link(good, folder):
    file = packed(good)
    with zipfile.ZipFile(file, "a") as archive:
        link = zipfile.ZipInfo("first/notes2.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    refused(file, folder, "is a link")


def test_bombs(good, folder, monkeypatch):
    refused(packed(good | {"events.jsonl": b"0" * 30_000_000}), folder, "more than any run")
    monkeypatch.setattr(module, "MAX_FILES", 3)
    refused(packed(good), folder, "holds [0-9]+ files")
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 100)
    refused(packed(good), folder, "too large")


def test_unusual_packing(good, folder):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in good.items():
            archive.writestr(name, content)
    refused(file, folder, "unusual way")
    locked = bytearray(packed(good).getvalue())
    first = locked.index(
        b"PK\x01\x02"
    )  # the directory's entry of the first file; its flags follow 8 bytes on
    locked[first + 8] |= 1
    refused(io.BytesIO(bytes(locked)), folder, "password")


def test_a_zip_that_lies_about_its_sizes(good, folder):
    honest = packed(good | {"events.jsonl": b"0" * 1_000_000}).getvalue()
    file = io.BytesIO(honest.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 1_000)))
    refused(file, folder, "damaged|too large|cut")


def test_pickles_and_strangers(good, folder):
    refused(packed(good | {"weights.pkl": b"\x80\x04."}), folder, "not part of a run")
    refused(packed(good | {"blocks/000.pt": b"\x80\x04."}), folder, "not part of a run")
    refused(packed(good | {"blocks/000.safetensors": b"\x80\x04\x95."}), folder, "not what the run recorded")


def test_no_zip_no_run_and_two_runs(good, folder):
    refused(io.BytesIO(b"PK\x03\x04 no zip"), folder, "not a zip")
    refused(io.BytesIO(b""), folder, "not a zip")
    refused(packed({"readme.txt": b""}), folder, "no config")
    refused(packed(good | {"second/config.json": b"{}"}), folder, "2 runs")
    refused(io.BytesIO(packed(good).getvalue()[:-400]), folder, "not a zip")


def test_a_recovery(folder, tmp_path):
    run = trim.open_run(make_run(tmp_path / "made"))
    recovery = trim.open_recovery(make_recovery(tmp_path / "trained", run))
    content = zipfile.ZipFile(io.BytesIO(exported_recovery(recovery)))
    good = {name.removeprefix("trained/"): content.read(name) for name in content.namelist()}
    assert sorted(good) == ["metrics.json", "moved.safetensors", "recovery.json"]
    moved = save({"0.mlp": np.zeros(2)})
    metrics = json.loads(good["metrics.json"])
    for name, bad, message in (
        ("metrics.json", {**metrics, "best": 4}, "its curve of the held-out losses is not complete"),
        ("metrics.json", {"sparsity": 0.5, "seconds": 1}, "its curve of the held-out losses is not complete"),
        ("metrics.json", {**metrics, "sparsity": 2}, "metrics.json is damaged"),
        ("metrics.json", {}, "a recovery that is not complete"),
        ("recovery.json", {}, "schema"),
        ("moved.safetensors", moved, "must contain float32 vectors"),
        ("weights.bin", b"", "not part of a run"),
        ("blocks/000.safetensors", b"", "not part of a run"),
    ):
        content = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
        refused(packed(good | {name: content}), folder, message)
    whole = packed(good | {"model/config.json": b"{}", "model/model.safetensors": b"x", ".lock": b""})
    back = trim.open_recovery(bring(whole, folder))
    assert (back.fingerprint, back.complete, back.has_model) == (recovery.fingerprint, True, False)


def test_a_damaged_byte(good, folder):
    content = bytearray(packed(good).getvalue())
    content[len(content) // 3] ^= 0xFF
    refused(io.BytesIO(bytes(content)), folder, "damaged|not what")


def test_everything_in_it_is_read(good, folder):
    """What each file may hold is the business of `trim.runs`; here the import reads all of it."""
    for name in ("config.json", "manifest.json", "budgets.json", "metrics.json"):
        refused(packed(good | {name: b'{"kind": NaN}'}), folder, f"{name} is damaged")
    refused(packed(good | {"notes.json": json.dumps({"name": "x" * 121}).encode()}), folder, "120 characters")
    strange = good | {"blocks/001.safetensors": good["blocks/000.safetensors"]}
    refused(packed(strange), folder, "not what the run recorded")
    refused(packed(good | {"blocks/999.safetensors": b""}), folder, "does not name 999")
    refused(packed(good | {"diagnoses/9.up.json": b"{}"}), folder, "has measured 9.up, and not pruned it")
    short = json.dumps({"targets": [{**TARGETS[0], "counts": [[1]]}]}).encode()
    refused(
        packed(good | {"diagnoses/1.mlp.gate_proj.json": short}), folder, "its rows are 1, and it needs 12"
    )


def test_a_search_that_contradicts_itself(folder, tmp_path):
    layer = record("0.mlp.gate_proj")
    layer.search.quality.fill(math.nan)
    with RunWriter.create(tmp_path / "made/first", settings()) as writer:
        writer.write_block(0, [layer])
    with exported(trim.open_run(tmp_path / "made/first"), masks=True) as file:
        refused(file, folder, "search of 0.mlp.gate_proj")


def test_a_full_disk(good, folder, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"No space left.*free some space"):
        bring(packed(good), folder)
    monkeypatch.undo()
    assert not list(folder.iterdir())


def test_what_a_killed_import_left_goes_away(good, folder, monkeypatch):
    (folder / ".importing-old/run").mkdir(parents=True)
    (folder / ".importing-killed").mkdir()
    (folder / ".importing-killed/lock").write_text("1\n")
    with FolderLock(folder / ".importing-now"):
        bring(packed(good), folder)
        assert sorted(each.name for each in folder.glob(".*")) == [".importing-now", ".importing-old"]
    monkeypatch.setattr(module, "UNLOCKED_SECONDS", -1)
    (folder / ".deleted/half/blocks").mkdir(parents=True)
    shutil.rmtree(folder / "first")
    bring(packed(good), folder)
    assert sorted(each.name for each in folder.iterdir()) == ["first"]


def test_one_zip_at_once_in_several_tabs(good, folder):
    content, gate = packed(good).getvalue(), threading.Barrier(4)

    def tab(_: int) -> Path:
        gate.wait()
        return bring(io.BytesIO(content), folder)

    with ThreadPoolExecutor(4) as tabs:
        paths = list(tabs.map(tab, range(4)))
    assert sorted(folder.iterdir()) == sorted(set(paths))
    assert len(set(paths)) == 4
