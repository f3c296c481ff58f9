"""Every file, folder and name that a document mentions exists."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = "trim|diagnostics|app|benchmarks|tests|docs"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        ROOT / "Makefile",
        ROOT / "NOTICE",
        ROOT / "tests/parity/README.md",
    ]
)


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    return request.param


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or can be reached from one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_paths(document):
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(rf"(?<![\w/.-])(?:{ROOMS})/[\w/.*-]*\w", text))
    assert not [path for path in named if not any(ROOT.glob(path))]


def test_links(document):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert not [link for link in links if not (document.parent / link).exists()]


def test_names(document):
    text = document.read_text(encoding="utf-8")
    # Not the paths of files, and not "app.ship" in the middle of a longer word.
    named = set(re.findall(r"(?<![\w/.-])(?:trim|diagnostics|app|benchmarks)(?:\.[A-Za-z_]\w*)+", text))
    assert not [name for name in named if not exists(name)]


def tree() -> list[str]:
    """Read the paths of the annotated tree in CONTRIBUTING.md."""
    (block,) = re.findall(r"```\n(trim/ .*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    above: list[str] = []
    paths = []
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name.rstrip("/")]
        paths.append("/".join(above))
    return paths


def test_the_tree_has_every_package():
    listed = tree()
    assert not [path for path in listed if not (ROOT / path).exists()]
    packages = {
        str(path.parent.relative_to(ROOT))
        for room in ("trim", "diagnostics", "app")
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert packages <= set(listed)
