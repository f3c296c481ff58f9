"""For all tests: what is set before any of them loads torch, and who runs which where several processes test."""

import os

import pytest

# Threads that spin where they wait for each other make tests many times slower on cores shared with anything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """A process at a time takes a file, and one alone all that drive a browser: two browsers starve each other."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "tests/browser" if file.startswith("tests/browser/") else file

    return ByFile(config, log)


# Whole runs, subprocesses and pages: left out of `make test-fast`.
SLOW = (
    "tests/app",
    "tests/browser",
    "tests/trim/pruning",
    "tests/trim/sweeps",
    "tests/trim/cli",
    "tests/trim/evaluation",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
