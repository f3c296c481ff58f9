"""What may happen to a server overnight: afterwards the app starts, says what happened, and no finished block is lost.

Faults of the library alone (damaged blocks, a full disk) are drilled in tests/trim/pruning.
"""

import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from unittest.mock import Mock

import pytest

import trim
from app import seminar
from app.services.jobs.manager import RunJobs
from app.services.jobs.progress import read_progress
from app.services.jobs.records import JobRecord
from app.services.runs import shipped
from app.services.runs.store import STORE
from tests.app.page import ROOT, page_text, visit
from tests.app.small_runs import make_run
from tests.processes import make
from tests.trim import tiny
from tests.waiting import wait_until
from trim.runs.json_files import write_json

APP = """
import sys
from pathlib import Path
from app.services.jobs.manager import RunJobs
jobs = RunJobs(lambda: Path(sys.argv[1]))
print(jobs.prune(sys.argv[3:], sys.argv[2]), flush=True)
import time; time.sleep(600)
"""


def test_the_app_is_killed_during_a_run(runs, tmp_path):
    """The run goes on by itself, and the next app finds it."""
    model = tiny.folder(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text("word " * 3000)
    command = [str(model), "--target", "0.5", "--corpus", str(text), "--windows", "4", "--length", "16"]
    app = subprocess.Popen(
        [sys.executable, "-c", APP, str(runs), "overnight", *command, "--device", "cpu"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    run_id = app.stdout.readline().strip()
    app.send_signal(signal.SIGKILL)
    app.wait()
    app.stdout.close()
    jobs = RunJobs(lambda: runs)
    state = wait_until(
        lambda: None if (now := jobs.state(run_id)).active else now, lambda: jobs.output(run_id)
    )
    assert state.status == "complete", jobs.output(run_id)
    assert "overnight" in page_text(visit("runs", run=run_id))


def test_the_disk_is_full(runs, monkeypatch):
    make_run(runs / "mine", name="Still here")
    usage = shutil.disk_usage(runs)
    monkeypatch.setattr("app.services.jobs.manager.shutil.disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(trim.TrimError, match=r"is full: 0 bytes are free.*Delete runs"):
        RunJobs(lambda: runs).prune(["demo"], "no room")
    assert [path.name for path in runs.iterdir() if not path.name.startswith(".")] == ["mine"]
    monkeypatch.setattr("trim.files.os.fsync", Mock(side_effect=OSError(28, "No space left on device")))
    test = visit("runs", run="mine")
    assert "Still here" in page_text(test)
    test.text_input(key="name-mine").set_value("Another name")
    next(button for button in test.button if button.label == "Save name and note").click().run()
    assert not test.exception
    assert "No space left" in page_text(test)
    assert trim.open_run(runs / "mine").name == "Still here"


def test_the_clock_goes_back(runs):
    """Events of the future, and a job that began tomorrow."""
    path = make_run(runs / "half", blocks=1)
    events = (path / "events.jsonl").read_text()
    assert '"2' in events
    (path / "events.jsonl").write_text(events.replace('"20', '"21'))
    test = visit("model", run="half")
    assert "This run stopped" in page_text(test)
    run = trim.open_run(path)
    progress = read_progress(run.events(latest_first=True), datetime.datetime.now(datetime.UTC))
    assert 0 <= progress.now.fraction <= 1
    assert progress.now.seconds_left == 1
    tomorrow = JobRecord("half", "prune", "half", [], os.getpid(), time.time() + 86_400)
    (runs / ".jobs").mkdir(exist_ok=True)
    write_json(runs / ".jobs/half.job", tomorrow.__dict__)
    assert (
        RunJobs(lambda: runs).running() is None
    )  # our own process, but not the one that was started tomorrow
    assert "half" in page_text(visit("runs", run="half"))


def test_the_shipped_runs_are_damaged(runs, tmp_path, monkeypatch):
    damaged = tmp_path / "runs.tar.xz"
    damaged.write_bytes(shipped.ARCHIVE.read_bytes()[:100_000])
    monkeypatch.setattr(shipped, "ARCHIVE", damaged)
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(STORE, "_shipped", shipped.shipped_folder)
    make_run(runs / "mine", name="Still here")
    assert "cannot be unpacked" in page_text(visit("runs"))
    assert "Still here" in page_text(visit("runs", run="mine"))
    assert not visit("model", run="mine").error


def test_one_shipped_run_is_damaged(runs, tmp_path, monkeypatch):
    folder = tmp_path / "came along"
    make_run(folder / "good", name="Good")
    make_run(folder / "bad", name="Bad")
    (folder / "bad/config.json").write_bytes(b"\0" * 100)
    monkeypatch.setattr(STORE, "_shipped", lambda: folder)
    assert "damaged" in page_text(visit("runs", run="bad"))
    assert "damaged" in page_text(visit("model", run="bad"))
    assert "Good" in page_text(visit("runs", run="good"))
    for page in ("model", "compare", "paper", "learn"):
        visit(page)


def test_the_cache_is_damaged(runs, tmp_path, monkeypatch):
    """What it held is made anew; a cache that is not a folder is reported."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("TRIM_CACHE", str(cache))
    archive = tmp_path / "runs.tar.xz"
    make_run(tmp_path / "to ship/one", name="Came along")
    with tarfile.open(archive, "w:xz") as made:
        made.add(tmp_path / "to ship/one", "one")
    monkeypatch.setattr(shipped, "ARCHIVE", archive)
    monkeypatch.setattr(STORE, "_shipped", shipped.shipped_folder)
    assert "Came along" in page_text(visit("runs", run="one"))
    shutil.rmtree(cache)  # emptied while the app runs
    assert "Came along" in page_text(visit("runs", run="one"))
    shutil.rmtree(cache)
    cache.write_bytes(b"not a folder")
    make_run(runs / "mine", name="Still here")
    assert "cannot be unpacked" in page_text(visit("runs"))


def test_the_port_is_in_use(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert seminar.main(["--port", port, "--listen", "127.0.0.1"]) == 1
        assert "make seminar PORT=8601" in capsys.readouterr().err
        made = make("app", f"PORT={port}", "PRODUCT=", "WEIGHTS=", "ITSELF=", "CI=1")
    assert made.returncode != 0
    assert "make app PORT=8601" in made.stderr
