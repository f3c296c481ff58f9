"""The run store: what it lists, which of two runs an id means, when it reads again, and what it says of bad ones."""

import shutil
from pathlib import Path

import pytest

import trim
from app.services.runs.store import RunStore
from tests.app.small_runs import make_run
from trim.errors import RunError
from trim.runs.writer import write_notes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, made once; tests copy it."""
    folder = tmp_path_factory.mktemp("made")
    make_run(folder / "first", name="First")
    return folder


@pytest.fixture
def folders(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The user's runs and the shipped ones."""
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    shutil.copytree(made / "first", mine / "first")
    shutil.copytree(made / "first", shipped / "came-along")
    return mine, shipped


@pytest.fixture
def store(folders: tuple[Path, Path]) -> RunStore:
    return RunStore(lambda: folders[0], lambda: folders[1])


def test_the_users_runs_come_first(store):
    assert [(entry.id, entry.shipped) for entry in store.runs()] == [("first", False), ("came-along", True)]
    assert store.open("came-along").name == "First"
    assert [entry.problem for entry in store.runs()] == [None, None]


def test_the_users_run_takes_the_place_of_a_shipped_one(store, folders):
    shutil.copytree(folders[0] / "first", folders[0] / "came-along")
    assert {entry.id: entry.shipped for entry in store.runs()} == {"first": False, "came-along": False}
    assert not store.find("came-along").shipped


def test_what_has_not_changed_is_not_read_again(store, folders):
    run, layer = store.open("first"), store.layer("first", "1.mlp.gate_proj")
    assert store.open("first") is run
    assert store.layer("first", "1.mlp.gate_proj") is layer
    assert layer.packed_mask is None
    write_notes(folders[0] / "first", name="Second", note="of two")
    assert store.open("first").notes == {"name": "Second", "note": "of two"}
    assert store.layer("first", "1.mlp.gate_proj") is not layer


def test_a_run_that_grows_is_read_again(folders, store):
    path = make_run(folders[0] / "stopped", blocks=1)
    assert store.open("stopped").blocks == [0]
    shutil.rmtree(path)
    make_run(path)
    assert store.open("stopped").blocks == [0, 1]


@pytest.mark.parametrize(
    "run_id", ["", ".", "..", "../mine/first", "first/", "/etc", "a\\b", "C:x", " first", "x\0"]
)
def test_an_id_leads_nowhere_else(store, run_id):
    with pytest.raises(RunError, match="no run"):
        store.open(run_id)


def test_a_run_deleted_while_it_is_open(store, folders):
    run = store.open("first")
    shutil.rmtree(folders[0] / "first")
    assert run.layers  # what was read stays readable
    with pytest.raises(RunError, match="deleted"):
        store.layer("first", "1.mlp.gate_proj")


def test_damaged_and_foreign_runs_are_listed_with_the_reason(store, folders):
    for name, file, text, message in (
        ("a", "manifest.json", "{", "damaged"),
        ("b", "notes.json", "[]", "damaged"),
        ("c", "metrics.json", "\x00", "damaged"),
        ("d", "config.json", '{"schema": 99}', "schema 99"),
        ("e", "config.json", "no JSON", "damaged"),
    ):
        shutil.copytree(folders[1] / "came-along", folders[0] / name)
        (folders[0] / name / file).write_text(text)
        assert store.find(name).run is None
        with pytest.raises(RunError, match=message):
            store.layer(name, "1.mlp.gate_proj")
        assert message in store.find(name).problem
    assert len(store.runs()) == 7


def test_models_among_the_runs_are_not_runs(store, folders):
    (folders[0] / "exported").mkdir()
    (folders[0] / "exported" / "config.json").write_text('{"model_type": "llama"}')
    for _ in range(2):  # the second time from the cache
        assert [entry.id for entry in store.runs()] == ["first", "came-along"]
        with pytest.raises(RunError, match="There is no run 'exported'"):
            store.find("exported")


def test_without_the_shipped_runs_the_users_are_there(folders):
    def broken() -> Path:
        raise RunError("cannot be unpacked")

    store = RunStore(lambda: folders[0], broken)
    assert [entry.id for entry in store.runs()] == ["first"]
    assert store.shipped_problem == "cannot be unpacked"


def test_sweeps(store, folders):
    settings = trim.SweepSettings("demo", {"target": (0.5,)})
    trim.create_sweep(folders[1] / "sweep", settings, name="A sweep")
    trim.create_sweep(folders[0] / "bad", settings)
    (folders[0] / "bad/sweep.json").write_text("{")
    assert [(entry.id, entry.shipped, entry.sweep is None) for entry in store.sweeps()] == [
        ("bad", False, True),
        ("sweep", True, False),
    ]
    assert "damaged" in store.sweeps()[0].problem


def test_without_a_folder_there_are_no_runs(tmp_path):
    assert RunStore(lambda: tmp_path / "nowhere", lambda: tmp_path / "neither").runs() == []
