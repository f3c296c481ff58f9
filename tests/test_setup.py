"""The environment is made once: a second `make` calls no pip, a changed list of packages calls it again."""

import os
import shutil
from pathlib import Path

import pytest

from tests.processes import ROOT, make

COMPILED_FROM = "trim/compiled/sweep.py"
INSTALLED_FROM = (
    "requirements.txt",
    "requirements.lock",
    "tests/requirements.lock",
    "pyproject.toml",
    "trim/__init__.py",
)


def would_run(folder: Path, target: str) -> str:
    """Return the commands that make would run for the target."""
    made = make("-n", target, folder=folder)
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A checkout in which every step of the set-up has succeeded, by its stamps."""
    for folder in ("tests", "trim/compiled"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("Makefile", COMPILED_FROM, *INSTALLED_FROM):
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / ".venv").mkdir()
    for step in ("made", "requirements", "tests-requirements", "trim-lab", "compiled"):
        (tmp_path / f".venv/.stamp-{step}").touch()
        os.utime(tmp_path / f".venv/.stamp-{step}", (2, 2))
    return tmp_path


@pytest.mark.parametrize("target", ["app", "test", "lint"])
def test_nothing_is_installed_twice(finished, target):
    commands = would_run(finished, target)
    assert "pip" not in commands
    assert "venv --clear" not in commands
    assert "trim.compiled" not in commands


@pytest.mark.parametrize(
    ("changed", "target", "installed"),
    [
        (COMPILED_FROM, "app", "-m trim.compiled"),
        ("requirements.txt", "app", "install -r requirements.txt"),
        ("requirements.lock", "app", "install --require-hashes --no-deps -r requirements.lock"),
        ("tests/requirements.lock", "test", "install --require-hashes --no-deps -r tests/requirements.lock"),
        ("pyproject.toml", "test", "install --no-deps --no-build-isolation --editable ."),
        ("trim/__init__.py", "app", "install --no-deps --no-build-isolation --editable ."),
    ],
)
def test_what_changed_is_installed_or_compiled(finished, changed, target, installed):
    (finished / changed).touch()
    assert installed in would_run(finished, target).replace("--quiet ", "")
