"""For all tests: what is set before any of them loads torch, and who runs which where several processes test."""

import functools
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from trim.calibration.text_files import Text

from trim.cache import cache_folder

# Threads that spin where they wait for each other make tests many times slower on cores shared with anything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Without bytecode every process that tests start compiles all modules anew, and so does each run of the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Compiling takes half a minute: all tests use what `make setup` compiled, those with a cache of their own, too.
COMPILED = Path(sys.prefix, "share", "trim-lab", "compiled")
os.environ.setdefault("NUMBA_CACHE_DIR", str(COMPILED if COMPILED.is_dir() else cache_folder() / "compiled"))

# On how many examples a property is tried: few every day, --hypothesis-profile=thorough before a release. What once
# failed is written down as @example, which every profile tries.
settings.register_profile("everyday", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile("everyday")
LONG_TEXT = 100_000  # characters
ROOT = Path(__file__).parents[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give each process a file at a time, or a lane of files, which makes its browser, its models or its fork once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _lane(nodeid.partition("::")[0])

    config.option.loadscopereorder = False  # the order is made in `pytest_collection_modifyitems`
    return ByFile(config, log)


@functools.cache
def _lane(file: str) -> str:
    """Return the file's folder if it is a package, whose conftest makes things for all of its files."""
    folder = Path(file).parent
    if (ROOT / folder / "__init__.py").exists():
        return folder.as_posix()
    return "forks" if _forks(file) else file


@functools.cache
def _forks(file: str) -> bool:
    """Return whether the file's tests fork processes."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return "from tests import forks" in text or "forked_jobs" in text


# Whole runs, subprocesses and pages: left out of `make test-fast`.
SLOW = (
    "tests/app",
    "tests/browser",
    "tests/trim/pruning",
    "tests/trim/recovery",
    "tests/trim/sweeps",
    "tests/trim/cli",
    "tests/trim/evaluation",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what takes long; several processes begin with it, and end with what is quick."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Return the rank of a file: the longest first, which are the pages, all of one app and one browser."""
    lane = _lane(item.nodeid.partition("::")[0])
    first = ("tests/browser", "forks")
    return first.index(lane) if lane in first else len(first) + ("slow" not in item.keywords)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over torch and all else that stays loaded."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def tokens_of_a_text_once() -> Iterator[None]:
    """Cut a long text into tokens once per tokenizer: the demo text takes a second, and a hundred tests read it."""
    from trim.calibration import corpora

    cut = corpora.tokens_of
    known: dict[tuple[object, ...], Tensor] = {}

    def cut_once(text: "Text", tokenizer: "PreTrainedTokenizerBase", **how: object) -> "Tensor":
        if len(text) < LONG_TEXT:
            return cut(text, tokenizer, **how)
        made_of = sorted((name, value) for name, value in how.items() if name != "step")  # which only reports
        key = "".join(text.pieces()), tokenizer.backend_tokenizer.to_str(), *made_of
        if key not in known:
            known[key] = cut(text, tokenizer, **how)
        return known[key].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "tokens_of", cut_once)
        yield
