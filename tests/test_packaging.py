"""What pip installs, and that each version, extra and package is declared in one place only."""

import email
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import trim
from tests.processes import ROOT, make
from trim.models.source import DEMO_WHEEL

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = ("trim", "diagnostics")
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def pins(file: str) -> dict[str, str]:
    """Read the version of each package in a list of exact versions, in a lock each with hashes."""
    text = (ROOT / file).read_text()
    if file.endswith(".lock"):
        text, hashes = re.subn(r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", "", text, flags=re.M)
        assert hashes == text.count("==")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    matches = [PIN.fullmatch(line) for line in lines]
    assert all(matches), f"{file}: {[line for line, match in zip(lines, matches, strict=True) if not match]}"
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel as pip does, from a copy, with the setuptools that torch brings along."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    for folder in (*SHIPPED, "app", "benchmarks", "tests"):
        python_only = shutil.ignore_patterns("__pycache__", "shipped", "*.json", "*.safetensors")
        shutil.copytree(ROOT / folder, copy / folder, ignore=python_only)
    build = "from setuptools import build_meta; build_meta.build_wheel('out')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build], cwd=copy, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (made,) = (copy / "out").glob("*.whl")
    return zipfile.ZipFile(made)


def test_the_wheel_holds_every_module_of_the_library_and_nothing_else(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for room in SHIPPED for path in (ROOT / room).rglob("*.py")}
    assert held == modules | {f"{room}/py.typed" for room in SHIPPED}


def test_the_wheel_s_version_is_the_library_s(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    described = email.message_from_bytes(wheel.read(name))
    assert described["Version"] == trim.__version__
    assert set(described.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    licences = {name.rpartition("/")[2] for name in wheel.namelist() if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_the_version_is_declared_once():
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f"({trim.__version__})" in (ROOT / "CHANGELOG.md").read_text()


def test_the_installed_version_is_this_one():
    try:
        installed = importlib.metadata.version("trim-lab")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("TRIM Lab is not installed here: make setup")
    assert installed == trim.__version__


def test_the_command_exits_with_what_main_returns(monkeypatch, tmp_path):
    module, _, function = PROJECT["scripts"]["trim"].partition(":")
    main = getattr(importlib.import_module(module), function)
    monkeypatch.setattr(sys, "argv", ["trim", "inspect", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match=r"^2$"):
        sys.exit(main())  # as pip's script does


def test_the_lock_has_every_pin():
    lock, tools = pins("requirements.lock"), pins("tests/requirements.lock")
    assert len(lock) > 60
    assert not lock.keys() & tools.keys()
    assert pins("requirements.txt").keys() - lock.keys() == {"torch"}
    assert pins("requirements.txt").items() - {("torch", pins("requirements.txt")["torch"])} <= lock.items()
    assert pins("tests/requirements.txt").items() <= tools.items()
    name, version = DEMO_WHEEL.split("==")
    assert lock[name] == version


def test_the_lock_has_all_that_packages_bring_along():
    lock = pins("requirements.lock") | pins("tests/requirements.lock") | pins("requirements.txt")
    missing: set[str] = set()
    for name in lock.keys() - {DEMO_WHEEL.split("==")[0]}:
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            # CUDA's libraries are there with some builds of torch only, and come in the versions it asks for.
            optional = name == "torch" and re.match("nvidia|cuda|triton", needed.name)
            if not optional and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
                missing |= {canonicalize_name(needed.name)} - set(lock)
    assert not missing


def test_each_pin_lies_in_the_range_that_pip_may_choose_from():
    ranges = {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in map(
            Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["app"]]
        )
    }
    pinned = pins("requirements.txt")
    assert set(ranges) == set(pinned)
    assert not [name for name, version in pinned.items() if version not in ranges[name]]


def test_every_extra_that_is_named_exists():
    files = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("trim/**/*.py"),
        *ROOT.glob("app/**/*.py"),
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"(?:trim-lab|['\"]\.)\[([\w-]+)\]", text))
    assert named == set(PROJECT["optional-dependencies"])
    assert not re.search(r"install -r requirements-", text)


def test_licences_are_listed_in_the_locked_versions():
    lock = pins("requirements.lock") | pins("tests/requirements.lock") | pins("requirements.txt")
    rows = re.findall(r"^\| ([\w.-]+) \| (\d\S*) \|", (ROOT / "docs/licences.md").read_text(), re.M)
    listed = {canonicalize_name(name): version for name, version in rows}
    assert pins("requirements.txt").keys() <= listed.keys()
    assert not {name: version for name, version in listed.items() if lock.get(name, version) != version}


def test_the_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Beck", "Rudman", "Eickhoff"]
    assert paper["identifiers"][0]["value"] == "arXiv:2505.16743"


def test_hooks_and_workflow_run_what_make_and_ci_run():
    made = make("--dry-run", "--always-make", "lint")
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"] for hook in repository["hooks"]]
    assert made.stdout.splitlines()[-len(hooks) :] == hooks
    workflow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    assert workflow["jobs"]["check"]["steps"][-1] == {"run": "bash .ci/run"}
