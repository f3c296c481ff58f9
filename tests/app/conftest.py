"""Fixtures for pages that load models of their own, and what a page's visit needs once only."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner.script_cache import ScriptCache

from app.services.layer.laboratory import Laboratory
from app.services.runs.store import STORE
from app.services.server.access import SEMINAR, Seminar
from tests import forks
from tests.app.small_runs import EVIL, make_run
from tests.trim.conftest import hub as hub
from tests.trim.conftest import llama as llama

# AppTest reads the metadata of every installed package at each run of a page, which takes longer than most pages.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)
# It also compiles every page for every visit; a server does so once.
_compiled, _get_bytecode = ScriptCache(), ScriptCache.get_bytecode
ScriptCache.get_bytecode = lambda self, script_path: _get_bytecode(_compiled, script_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of runs, and none that came with the app."""
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(STORE, "_shipped", lambda: tmp_path / "none")
    return tmp_path / "runs"


@pytest.fixture
def three_runs(runs: Path) -> Path:
    """A folder of runs: "trim", "optimal", and "half", which was stopped; none that came with the app."""
    entry = {"corpus": "demo", "windows": 2, "length": 16, "tokens_sha256": "0", "perplexity": 12.5}
    make_run(runs / "trim", name=EVIL, metrics={"perplexities": [entry]})
    make_run(runs / "optimal", "optimal", metrics={"perplexities": [entry | {"perplexity": "inf"}]})
    make_run(runs / "half", blocks=1)
    return runs


@pytest.fixture
def own_laboratory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Laboratory:
    """A server that has nothing loaded, with caches of its own."""
    made = Laboratory()
    monkeypatch.setattr("app.ui.common.waiting.laboratory", lambda: made)
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def seminar() -> Iterator[Seminar]:
    """A seminar on this server, code "open sesame"; whoever asks is the session named by `.asking`."""
    before = SEMINAR.__dict__
    SEMINAR.__dict__ = Seminar("open sesame").__dict__ | {"who": lambda: SEMINAR.asking, "asking": "somebody"}
    yield SEMINAR
    SEMINAR.__dict__ = before


@pytest.fixture
def forked_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs start at once, as forks of a process that has pruned before."""
    forked = SimpleNamespace(Popen=forks.Popen, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr("app.services.jobs.manager.subprocess", forked)
