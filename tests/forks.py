"""Python processes that start without delay: forked from one that has imported torch and pruned a model."""

import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from types import ModuleType
from typing import IO


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.rehearsed"])
    return context


def _become(
    command: Sequence[str], environment: Mapping[str, str], output: Connection, new_session: bool
) -> None:
    """Run `python -m MODULE …` or `python -c CODE …` in this fork, with an environment and one file for all output."""
    if new_session:
        os.setsid()
    # A shell starts background processes with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output.fileno(), stream.fileno())
        stream.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    sys.modules["torch"].set_num_threads(int(environment.get("OMP_NUM_THREADS", 1)))
    how, what, *sys.argv[1:] = command
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


class Popen:
    """A replacement for `subprocess.Popen` that forks instead of starting Python anew.

    The command is [sys.executable, "-m" or "-c", …]; stdout and stderr go to the same file or pipe. The process runs in
    the folder in which the tests were started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: IO[bytes] | int,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.STDOUT,
        start_new_session: bool = False,
    ) -> None:
        assert command[0] == sys.executable, command
        assert (stdin, stderr) == (subprocess.DEVNULL, subprocess.STDOUT)
        reading, writing = os.pipe() if stdout == subprocess.PIPE else (None, os.dup(stdout.fileno()))
        output = Connection(writing, readable=False)
        environment = dict(os.environ if env is None else env)
        self._process = _server().Process(
            target=_become,
            args=(command[1:], environment, output, start_new_session),
            daemon=True,
        )
        # Otherwise the fork would first run the page that AppTest has left as the main module.
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            self._process.start()
        finally:
            sys.modules["__main__"] = main
        output.close()
        self.pid = self._process.pid
        self.stdout = None if reading is None else os.fdopen(reading, encoding="utf-8")

    def wait(self) -> int:
        """Wait for the end of the process; return its exit code, negative for a signal."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)
