"""Prune a tiny model in the process that `tests.forks` forks, so that its forks need not import and compile again."""

import contextlib
import importlib
import io
import os
import tempfile
from pathlib import Path

import torch

from tests.trim import rough
from trim import cli

torch.set_num_threads(1)  # no threads of torch's own: a fork would not have them
importlib.import_module("app.services.jobs.measure")


def _prune_measure_and_continue(folder: Path) -> None:
    model, run = str(rough.make_model("llama", folder / "model")), str(folder / "run")
    (folder / "text.txt").write_text("A line of text.\n" * 400)
    few = ["--windows", "2", "--length", "16", "--device", "cpu"]
    text = ["--corpus", str(folder / "text.txt"), *few]
    for command in (
        ["prune", model, "--target", "0.5", *text, "--out", run],
        ["evaluate", run, *text],
        ["generate", "--prompt=A", "--new-tokens", "1", "--", run],
    ):
        assert cli.main(command) == 0


with tempfile.TemporaryDirectory() as _folder:
    os.environ["TRIM_CACHE"] = _folder  # a fork sets its own environment
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        _prune_measure_and_continue(Path(_folder))
