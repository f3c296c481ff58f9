"""Forks of this process that are killed just before an operation on files, or after some time."""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}

Work = Callable[[], int | None]


def arm(folder: Path, operation: int, killed: Callable[[], None]) -> list[int]:
    """Call `killed` just before that operation on the files of a folder, counted from 1; return the counter."""
    count = [0]

    def heard(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            changes = (
                any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))
            )
        else:
            path, changes = arguments[0] if arguments else None, event in _WRITES
        if not changes or not isinstance(path, str | os.PathLike) or not str(path).startswith(str(folder)):
            return
        count[0] += 1
        if count[0] == operation:
            killed()

    sys.addaudithook(heard)
    return count


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def fork(work: Work, log: Path) -> int:
    """Do some work in a fork of this process, in its own session; return the process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    with contextlib.suppress(BaseException):
        os.setsid()
        with log.open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        try:
            code = work() or 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def wait_for_end(pid: int, seconds: float) -> int:
    """Wait for a process, and kill it after some seconds; return its exit code, negative for a signal."""
    deadline = time.monotonic() + seconds
    while True:
        ended_pid, status = os.waitpid(pid, os.WNOHANG)
        if ended_pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.002)
