"""The Runs page without a browser: what it lists, what it does, and what it says of bad input."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest

import trim
from app.services.runs.files import exported, exported_recovery
from tests.app.page import page_text, run_page, visit
from tests.app.small_runs import make_recovery, make_run
from trim.files import FolderLock

NAME = "<b>Bold</b> & *starred* [link](http://x.y)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_run(folder / "first", name=NAME, note="A <img src=x> note")
    make_run(folder / "stopped", "optimal", blocks=1, name="Stopped on the way")
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's runs, to which TRIM_RUNS points; nothing came with this app."""
    shutil.copytree(made, tmp_path / "runs")
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


class Page:
    """One visit; every step must end without an exception."""

    def __init__(self, **address: str) -> None:
        self.test = visit("runs", **address)

    def step(self) -> "Page":
        run_page(self.test)
        return self

    def press(self, label: str) -> "Page":
        (button,) = [each for each in self.test.button if each.label == label]
        button.click()
        return self.step()

    def choose(self, run_id: str) -> "Page":
        self.test.selectbox(key="run_shown_here").set_value(run_id)
        return self.step()

    @property
    def table(self) -> dict[str, list]:
        return self.test.dataframe[0].value.to_dict("list")

    @property
    def texts(self) -> str:
        return page_text(self.test)


def test_a_recovery_has_a_line_and_a_view_of_its_own(runs):
    make_recovery(runs / "trained", trim.open_run(runs / "first"))
    page = Page(run="trained")
    table = page.table
    place = table["Kind"].index("recovery")
    assert table["Sparsity"][place] == 50
    assert table["Method"][place] == f"{NAME[:40]}, trained 0.3 min"
    assert table["State"][place] == "complete"
    assert "python -m trim export runs/trained recovered" in page.test.code[0].value
    assert page.test.code[1].value.startswith(
        "python -m trim recover runs/first --minutes 1 --learning-rate 0.001"
    )
    assert [each.label for each in page.test.button if "X-ray" in each.label] == ["X-ray its model"]
    page.test.text_input(key="name-trained").set_value("Another name")
    page.press("Save name and note")
    assert trim.open_recovery(runs / "trained").name == page.test.subheader[0].value == "Another name"
    box = page.test.selectbox(key="export_kind")
    for kind in box.options:
        page.test.selectbox(key="export_kind").set_value(kind)
        page.step().press("Make the file")
        assert not page.test.error
        assert [each.label for each in page.test.get("download_button")]
    page.press("Delete it")
    assert not (runs / "trained").exists()


def test_a_recovery_comes_back_from_a_zip_without_its_model(runs):
    recovery = trim.open_recovery(make_recovery(runs / "trained", trim.open_run(runs / "first")))
    content = exported_recovery(recovery)
    shutil.rmtree(runs / "trained")
    page = Page()
    page.test.get("file_uploader")[0].upload("trained.zip", content, "application/zip")
    page.step().press("Import")
    assert page.test.selectbox(key="run_shown_here").value == "trained"
    assert "Its model has stayed where it was made" in page.texts
    back = trim.open_recovery(runs / "trained")
    assert (back.fingerprint, back.metrics, back.complete, back.has_model) == (
        recovery.fingerprint,
        recovery.metrics,
        True,
        False,
    )
    with pytest.raises(trim.ModelError, match="a recovery without its model"):
        trim.load_model(back.path)


def test_what_is_listed(runs):
    shutil.copytree(runs / "first", runs / "bad")
    (runs / "bad/manifest.json").write_text("{")
    page = Page()
    table = page.table
    mine = dict(
        zip(table["Name"], zip(table["State"], table["Method"], table["Sparsity"], strict=True), strict=True)
    )
    assert mine[NAME] == ("complete", "trim, wanda", 50)
    assert mine["Stopped on the way"][:2] == ("unfinished, 1 of 2 blocks", "optimal, budgets optimal, wanda")
    assert mine["bad"][0] == "cannot be read"
    assert [state for state, *_ in mine.values()].count("came with the app") == 4
    assert {page.test.selectbox(key="run_shown_here").value} <= {"first", "stopped"}
    assert "Sweeps" in page.texts
    page.choose("bad")
    assert "is damaged" in page.test.error[0].value


def test_search_and_kinds(runs):
    page = Page(search="BOLD starred")
    assert page.table["Name"] == [NAME]
    page.test.text_input(key="search").set_value("no such thing")
    page.step()
    assert "matches “no such thing”" in page.texts
    page.test.text_input(key="search").set_value("")
    page.test.segmented_control(key="kind").set_value("Single layers")
    page.step()
    assert "here none is of this kind." in page.texts


def test_a_run_by_its_address(runs):
    page = Page(run="stopped")
    assert page.test.subheader[0].value == "Stopped on the way"
    assert "in 1 of 2 blocks" in str([metric.delta for metric in page.test.metric])
    assert "python -m trim prune demo --target 0.5" in page.test.code[0].value
    strange = Page(run="<b>no</b>")
    assert "There is no run" in strange.test.warning[0].value
    assert "<b>" not in strange.test.warning[0].value


def test_an_address_that_asks_for_what_is_not_there(runs):
    page = Page(kind="Everything", run="first")
    assert "kind\\=Everything" in page.test.warning[0].value
    assert page.test.segmented_control(key="kind").value == "All"


def test_rename(runs):
    page = Page(run="first")
    page.test.text_input(key="name-first").set_value("Another name")
    page.test.text_area(key="note-first").set_value("Another note")
    page.press("Save name and note")
    assert trim.open_run(runs / "first").notes == {"name": "Another name", "note": "Another note"}
    assert page.test.subheader[0].value == "Another name"
    assert "Another note" in page.texts


def test_delete(runs):
    page = Page(run="first")
    lock = FolderLock(runs / "first")
    page.press("Delete it")
    assert "in use by another process" in page.test.error[0].value
    lock.release()
    page.press("Delete it")
    assert not (runs / "first").exists()
    assert NAME not in page.table["Name"]


def test_what_came_with_the_app_stays(runs):
    page = Page(run="demo-trim-70")
    assert not [
        button for button in page.test.button if "Delete" in button.label or "Save name" in button.label
    ]
    assert "came with the app and stays as it is" in page.texts
    assert page.test.metric[0].value == "70.00%"
    assert "What does the model still say?" in page.texts
    assert "**Dense**" in page.texts
    assert "We must create jobs" in page.texts


@pytest.mark.parametrize("kind", ["Report: one", "without masks", "complete", "NPZ", "CSV"])
def test_files_to_take(runs, kind):
    page = Page(run="first")
    box = page.test.selectbox(key="export_kind")
    box.set_value(next(each for each in box.options if kind in each))
    page.step().press("Make the file")
    assert not page.test.error
    assert [each.label for each in page.test.get("download_button")]


def test_a_run_deleted_while_it_is_open(runs):
    page = Page(run="first")
    shutil.rmtree(runs / "first")
    page.press("Make the file")
    assert "first" not in page.test.selectbox(key="run_shown_here").options
    page = Page(run="stopped")
    (runs / "stopped/blocks/000.safetensors").unlink()
    page.press("Make the file")
    assert "is damaged" in page.test.error[0].value


def zipped(run: trim.Run) -> bytes:
    with exported(run, masks=True) as file:
        return file.read()


def test_import(runs):
    content = zipped(trim.open_run(runs / "first"))
    page = Page()
    page.test.get("file_uploader")[0].upload("first.zip", content, "application/zip")
    page.step().press("Import")
    (new,) = {path.name for path in runs.iterdir()} - {"first", "stopped"}
    assert new.startswith("first-")
    assert page.test.selectbox(key="run_shown_here").value == new
    assert page.table["Name"].count(NAME) == 2


def test_import_of_what_is_not_a_run(runs):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../evil.json", "{}")
    page = Page()
    page.test.get("file_uploader")[0].upload("evil.zip", file.getvalue(), "application/zip")
    page.step().press("Import")
    assert "outside of the run" in page.test.error[0].value
    assert {path.name for path in runs.iterdir()} == {"first", "stopped"}


def test_no_runs_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "file/cache"))
    page = Page()
    assert "No run here yet" in page.texts
    assert "cannot be unpacked" in page.texts
