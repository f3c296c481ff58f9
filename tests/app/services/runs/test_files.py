"""Name, delete and export a run."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import trim
from app.services.runs.facts import run_facts, text_title
from app.services.runs.files import delete, exported, rename
from app.services.runs.store import RunStore
from tests.app.small_runs import make_run
from trim.errors import RunError, RunLockedError
from trim.files import FolderLock
from trim.runs.run_record import TextFacts
from trim.runs.settings import PruneSettings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    same_text = {"tokens_sha256": "1" * 64, "windows": 2, "length": 16, "corpus": "demo"}
    metrics = {
        "perplexities": [
            {**same_text, "perplexity": 500.0, "tokens_sha256": "2"},
            {**same_text, "perplexity": "inf"},
        ],
        "dense_perplexities": [{"perplexity": 20.5, **same_text}],
    }
    make_run(folder / "first", name="First <b>run</b>", note="a note", metrics=metrics)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> RunStore:
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    shutil.copytree(made / "first", mine / "first")
    shutil.copytree(made / "first", shipped / "came-along")
    return RunStore(lambda: mine, lambda: shipped)


def test_facts_of_a_complete_run(store):
    facts = run_facts(store.find("first"))
    assert (facts.name, facts.note, facts.kind) == ("First <b>run</b>", "a note", "model")
    assert (facts.model, facts.method) == ("Tiny <b>model</b>", "trim, wanda")
    assert (facts.sparsity, facts.perplexity, facts.dense_perplexity) == (0.5, float("inf"), 20.5)
    assert (facts.state, facts.blocks_done, facts.blocks, facts.shipped) == ("complete", 2, 2, False)
    assert facts.size_bytes == sum(
        file.stat().st_size for file in store.find("first").path.rglob("*.*")
    ) + len((store.find("first").path / "lock").read_bytes())
    assert facts.matches("TRIM first")
    assert facts.matches("")
    assert not facts.matches("first optimal")


def test_facts_of_an_unfinished_run(store, tmp_path):
    path = make_run(tmp_path / "mine/stopped", "optimal", blocks=1)
    (path / "lock").write_text("999999999\n")
    facts = run_facts(store.find("stopped"))
    assert (facts.state, facts.blocks_done, facts.blocks) == ("unfinished", 1, 2)
    assert (facts.sparsity, facts.perplexity, facts.method) == (0.5, None, "optimal, budgets optimal, wanda")
    (path / "lock").write_text(f"{os.getppid()}\n")
    assert run_facts(store.find("stopped")).state == "being written"


def test_facts_of_a_damaged_run(store):
    (store.find("first").path / "manifest.json").write_text("{")
    facts = run_facts(store.find("first"))
    assert (facts.state, facts.name, facts.method) == ("damaged", "first", "")
    assert "manifest.json is damaged" in facts.problem


@pytest.mark.parametrize(
    ("given", "corpus", "title"),
    [
        (False, "demo", "2 windows of 1,024 tokens of demo"),
        (False, "/texts/my text.txt", "2 windows of 1,024 tokens of my text.txt"),
        (True, "demo", "2 windows of 1,024 tokens given in Python"),
    ],
)
def test_the_title_of_a_calibration_text(given, corpus, title):
    request = PruneSettings("demo", 0.7, corpus=corpus, windows=2, length=1024)
    assert text_title(TextFacts(2048, "0" * 64, given), request) == title


def test_rename(store):
    rename(store.find("first"), " Second ", "x" * 9999)
    facts = run_facts(store.find("first"))
    assert facts.name == "Second"
    assert len(facts.note) == 4000


def test_delete_only_what_is_the_users_and_not_in_use(store, tmp_path):
    with pytest.raises(RunError, match="came with the app"):
        delete(store.find("came-along"))
    with pytest.raises(RunError, match="came with the app"):
        rename(store.find("came-along"), "mine", "")
    entry = store.find("first")
    lock = FolderLock(entry.path)
    with pytest.raises(RunLockedError, match="in use"):
        delete(entry)
    lock.release()
    assert store.open("first").layers
    (tmp_path / "mine/link").symlink_to(entry.path)
    with pytest.raises(RunError, match="is a link"):
        delete(store.find("link"))
    delete(entry)
    assert not entry.path.exists()
    with pytest.raises(RunError, match="deleted already"):
        delete(entry)
    with pytest.raises(RunError, match="no run"):
        store.find("first")


def test_export_of_files_from_before_the_format(store):
    run = store.open("came-along")
    for file in run.path.rglob("*"):
        os.utime(file, (0, 0))
    with exported(run, masks=True) as file, zipfile.ZipFile(file) as archive:
        assert archive.getinfo("came-along/config.json").date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("masks", [True, False])
def test_export(store, tmp_path, masks):
    run = store.open("first")
    with exported(run, masks=masks) as file, zipfile.ZipFile(file) as archive:
        assert all(name.startswith("first/") for name in archive.namelist())
        assert "first/lock" not in archive.namelist()
        archive.extractall(tmp_path / "out")
    copy = trim.open_run(tmp_path / "out/first")
    assert (copy.config, copy.notes, copy.metrics, copy.budgets) == (
        run.config,
        run.notes,
        run.metrics,
        run.budgets,
    )
    assert copy.complete
    assert len(list(copy.events())) == 2
    for name in run.layers:
        np.testing.assert_array_equal(copy.layer(name).counts, run.layer(name).counts)
        assert (copy.layer(name).packed_mask is not None) == masks


def test_export_of_a_damaged_run(store):
    run = store.open("first")
    (run.path / "blocks/001.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="damaged"), exported(run, masks=False):
        pass
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match=r"damaged|exported"), exported(run, masks=False):
        pass
