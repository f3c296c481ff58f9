"""One cell of a sweep: prune and measure it, or resume it."""

import functools
from pathlib import Path

from torch import Tensor

from trim.calibration.corpora import check_length, load_corpus
from trim.errors import TrimError
from trim.evaluation.evaluate import evaluate
from trim.evaluation.workbench import Workbench
from trim.progress import ProgressListener
from trim.pruning.events import FactListener
from trim.pruning.prune import prune, resume
from trim.runs.folder import Run, open_run
from trim.runs.json_files import write_json
from trim.runs.writer import RunWriter
from trim.sweeps.folder import CellOutcome, Sweep
from trim.sweeps.settings import Cell


class CellMaker:
    """Prunes and measures the cells of one sweep; the model and the calibration texts are read once for all."""

    def __init__(self, sweep: Sweep, progress: ProgressListener | None = None) -> None:
        self.sweep = sweep
        self._progress = progress
        shared = sweep.settings.cells[0].settings
        self._workbench = Workbench(device=shared.device, dtype=shared.dtype, progress=progress)
        self._tokens = functools.lru_cache(maxsize=8)(self._load_tokens)

    def measure_dense(self) -> tuple[float, ...]:
        """Measure the dense model's perplexity on each text, once."""
        if None in self.sweep.dense():
            results = evaluate(
                self.sweep.settings.model,
                self.sweep.settings.texts,
                workbench=self._workbench,
                progress=self._progress,
            )
            entries = [result.to_json() for result in results]
            write_json(self.sweep.path / "dense.json", {"perplexities": entries})
        return tuple(float(entry["perplexity"]) for entry in self.sweep.dense() if entry)

    def make(self, cell: Cell, listener: FactListener | None = None) -> CellOutcome:
        """Prune and measure one cell, or resume it; an error that a user can fix is stored as the cell's problem."""
        problem_path = self.sweep.problem_path(cell)
        try:
            self._make(cell, listener)
        except TrimError as error:
            write_json(problem_path, {"problem": str(error)})
        else:
            problem_path.unlink(missing_ok=True)
        return self.sweep.outcome(cell)

    def _make(self, cell: Cell, listener: FactListener | None) -> None:
        """Prune or resume a cell, measure it, and drop its masks unless they are kept."""
        path, settings = self.sweep.cell_path(cell), cell.settings
        if (path / "config.json").exists():
            resume(path, progress=self._progress, listener=listener)
        else:
            tokens = self._tokens(
                settings.corpus, settings.windows, settings.length, settings.seed, settings.bos
            )
            prune(
                settings.model,
                path,
                settings,
                tokens=tokens,
                tokens_of_corpus=True,
                name=cell.id,
                progress=self._progress,
                listener=listener,
            )
        if not self.sweep.outcome(cell).done:
            evaluate(path, self.sweep.settings.texts, workbench=self._workbench, progress=self._progress)
        if not self.sweep.keep_masks:
            drop_masks(path)

    def _load_tokens(self, corpus: str, windows: int, length: int, seed: int, bos: bool) -> Tensor:
        """Read the calibration windows that cells with equal text options share."""
        model = self._workbench.model(self.sweep.settings.model)
        check_length(model.title, model.longest_window, length)
        return load_corpus(
            corpus,
            model.tokenizer,
            windows=windows,
            length=length,
            seed=seed,
            bos=bos,
            progress=self._progress,
        )


def drop_masks(path: str | Path) -> None:
    """Rewrite the blocks of a complete run without their masks, about nine tenths of its size.

    If it is killed, some blocks have masks and others have none; calling it again completes it.

    Raises:
        RunError: no run, or it cannot be written.
    """
    with RunWriter.reopen(path) as writer:  # removes a file that a killed process may have left
        run = open_run(path)
        if not _has_mask(run, run.layers[-1]):  # blocks lose their masks in order
            return
        for index in run.blocks:
            entry = run.manifest["blocks"][str(index)]
            names = entry["layers"]
            if not names or not _has_mask(run, names[0]):
                continue
            records = [run.layer(name, mask=False) for name in names]
            writer.write_block(index, records, **entry)


def _has_mask(run: Run, name: str) -> bool:
    return run.layer(name).packed_mask is not None
