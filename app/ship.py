"""Makes the runs that come with the app: `python -m app.ship` (or `make shipped`), an hour on two cores.

The demo model is pruned by Wanda with uniform sparsity, by TRIM and by the optimal method, the latter also with the
kept weights refitted, at four sparsities; of each its perplexity is kept, and at two sparsities TRIM's and the
optimal run as a whole: every row of every layer, without masks. What rows hold is rounded for the archive's sake, which
every run says in its note.
"""

import argparse
import dataclasses
import io
import json
import lzma
import math
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from app.services.runs.files import copy_run
from app.services.runs.shipped import ARCHIVE
from trim.evaluation.generation import continue_prompt
from trim.evaluation.settings import EvaluationText, Sampling
from trim.evaluation.workbench import Workbench
from trim.files import atomic_file
from trim.runs.folder import Run, open_run
from trim.runs.record import LayerRecord
from trim.runs.writer import update_metrics, write_notes
from trim.sweeps.events import CellDone, SweepFact
from trim.sweeps.folder import Sweep, create_sweep
from trim.sweeps.run import run_sweep
from trim.sweeps.settings import SweepSettings

TARGETS = (0.5, 0.6, 0.7, 0.8)
WHOLE_AT = (0.7, 0.8)  # the model sparsities at which complete runs are kept
BROKEN = 10  # times the dense model's perplexity: such a model is of no use
CALIBRATION = {"windows": 32, "length": 256}
VECTORS = 8  # input vectors per window
EVALUATION = EvaluationText("demo", windows=16, length=512)
PROMPT = "We must create jobs for the American people, and we must"
NEW_TOKENS = 32
# Each sweep is a grid: the published methods share uniform budgets, the optimal one sets its own.
SWEEPS = {
    "demo-published": ("Wanda and TRIM on the demo model", ("uniform", "trim"), "uniform", (False,)),
    "demo-optimal": ("The optimal method on the demo model", ("optimal",), "optimal", (False, True)),
}
WHOLE = {"trim": "Demo model, TRIM", "optimal": "Demo model, optimal"}
NOTE = (
    "Came with the app. To keep it small it has no masks, and what it says of rows is rounded: cosine curves and the "
    "search's steps to about two digits, the rest to three. Counts, qualities and perplexities are exact."
)
CURVE_STEP, SEARCH_STEP, OTHER_BITS = 1 / 128, 1 / 256, 10


def ship(
    work: Path,
    archive: Path,
    *,
    model: str = "demo",
    calibration: Mapping[str, int] = CALIBRATION,
    evaluation: EvaluationText = EVALUATION,
    targets: tuple[float, ...] = TARGETS,
    whole_at: tuple[float, ...] = WHOLE_AT,
    new_tokens: int = NEW_TOKENS,
) -> None:
    """Make the archive.

    Args:
        work: where the sweeps are made, some 200 MB; what is there already is resumed.
        archive: the file that takes its name when it is complete.
        model: what is pruned.
        calibration: number and length of the windows that it is calibrated on.
        evaluation: the text that it is measured on.
        targets: the model sparsities.
        whole_at: the targets of the runs that are shipped as runs, not only as results.
        new_tokens: the length of a continuation.
    """
    sweeps = {}
    for name, (title, allocations, budget, refit) in SWEEPS.items():
        grid = {
            "target": targets,
            "allocation": allocations,
            "budget": (budget,),
            "refit": refit,
            "vectors_per_sequence": (VECTORS,),
        }
        settings = SweepSettings(model, grid, dict(calibration), (evaluation,))
        sweeps[name] = create_sweep(work / name, settings, name=title, keep_masks=True)
        run_sweep(sweeps[name], listener=_tell)
    dense = list(sweeps["demo-published"].dense())
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        staged = Path(temporary)
        spread: dict[str, float] = {}  # of TRIM's and the optimal rows, at the target before
        for target in whole_at:
            cells = {
                cell.settings.allocation: sweep.cell_path(cell)
                for sweep in sweeps.values()
                for cell in sweep.cells.values()
                if cell.settings.target == target and not cell.settings.refit
            }
            uniform = open_run(cells["uniform"]).metrics["perplexities"]
            compared = {
                "dense_perplexities": dense,
                "uniform_perplexities": uniform,
                "continuations": [_continuations(model, cells, new_tokens)],
            }
            for allocation, title in WHOLE.items():
                run, name = open_run(cells[allocation]), f"demo-{allocation}-{100 * target:.0f}"
                before, spread[allocation] = spread.get(allocation), _spread(run)
                entries = (run.metrics["perplexities"][0], uniform[0], dense[0])
                own, others, base = (float(entry["perplexity"]) if entry else math.nan for entry in entries)
                note = _compared(own, others, base, before, spread[allocation])
                _small_run(run, staged / name, f"{title} at {target:.0%}", f"{note} {NOTE}")
                update_metrics(staged / name, compared)
        for name, sweep in sweeps.items():
            _small_sweep(sweep, staged / name)
        _pack(staged, archive)


def _tell(event: SweepFact) -> None:
    if isinstance(event, CellDone):
        print(f"{event.cell}: perplexity {event.perplexities}", flush=True)


def _continuations(model: str, cells: Mapping[str, Path], new_tokens: int) -> dict:
    """Let the dense model and each pruned one continue a prompt."""
    workbench, texts = Workbench(), {}
    targets: dict[str, str | Path] = {"dense": model, **cells}
    for name, target in targets.items():
        with workbench.opened(target) as opened:
            texts[name] = continue_prompt(opened, PROMPT, Sampling(new_tokens))
    return {"prompt": PROMPT, "new_tokens": new_tokens, "temperature": 0.0, "texts": texts}


def _spread(run: Run) -> float:
    """Return the standard deviation of row sparsity within a layer, mean over the layers."""
    layers = (run.layer(name, mask=False) for name in run.layers)
    return float(np.mean([np.std(layer.counts / layer.columns) for layer in layers]))


def _compared(own: float, others: float, base: float, before: float | None, spread: float) -> str:
    """Compare a perplexity with uniform sparsity's and the dense model's, and the rows with those at a lower target."""
    note = f"Perplexity {own:,.0f}, under uniform sparsity {others:,.0f}, dense {base:,.1f}"
    if min(own, others) > BROKEN * base:
        note += ": at this sparsity both pruned models are broken"
    if before is not None:
        more = "more" if spread > before else "less"
        note += (
            f"; rows differ {more} than in the run at the lower target, by {100 * spread:.1f} instead of "
            f"{100 * before:.1f} percentage points of row sparsity"
        )
    return f"{note}."


def _small_run(run: Run, path: Path, title: str, note: str) -> None:
    """Copy a run without its masks, with rounded rows and without the events of its making."""
    copy_run(run, path, rounded)
    (path / "events.jsonl").unlink(missing_ok=True)
    write_notes(path, name=title, note=note)


def rounded(record: LayerRecord) -> LayerRecord:
    """Return the record with fewer digits, which compress well."""
    search = record.search
    if search is not None:
        search = dataclasses.replace(search, row_sparsity=_to_steps(search.row_sparsity, SEARCH_STEP))
    return dataclasses.replace(
        record,
        gini=_to_bits(record.gini),
        weight_norm=_to_bits(record.weight_norm),
        cosine_uniform=_to_bits(record.cosine_uniform),
        cosine=_to_bits(record.cosine),
        cosine_curve=_to_steps(record.cosine_curve, CURVE_STEP),
        sensitivity=None if record.sensitivity is None else _to_bits(record.sensitivity),
        search=search,
    )


def _to_steps(values: np.ndarray, step: float) -> np.ndarray:
    return (np.round(values.astype(np.float64) / step) * step).astype(values.dtype)


def _to_bits(values: np.ndarray) -> np.ndarray:
    """Round to OTHER_BITS binary digits; no cosine leaves −1 to 1 by it, as ±1 are kept exactly."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    short: np.ndarray = np.ldexp(np.round(mantissa * 2**OTHER_BITS) / 2**OTHER_BITS, exponent)
    return short.astype(values.dtype)


def _small_sweep(sweep: Sweep, path: Path) -> None:
    """Copy a sweep: perplexities and settings of every cell, without blocks."""
    for file in sorted(sweep.path.glob("*.*")):
        _copy(file, path / file.name)
    for cell in sweep.cells.values():
        folder = sweep.cell_path(cell)
        for name in ("config.json", "metrics.json", "budgets.json"):
            _copy(folder / name, path / "cells" / cell.id / name)
        manifest = json.dumps({"complete": True, "blocks": {}})
        (path / "cells" / cell.id / "manifest.json").write_text(manifest)


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(file.read_bytes())


def _pack(folder: Path, archive: Path) -> None:
    """Write one compressed archive; the same files give the same bytes."""
    # Arrays of two and four bytes compress best when positions within them are told apart.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lp": 1, "lc": 3, "pb": 1}]
    with (
        atomic_file(archive) as file,
        lzma.open(file, "wb", filters=filters) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(
            each for each in folder.rglob("*") if each.is_file() and each.name not in ("lock", ".lock")
        ):
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            content = path.read_bytes()
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m app.ship", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/.shipped"), help="where sweeps are made")
    parser.add_argument("--out", type=Path, default=ARCHIVE, help="the archive")
    chosen = parser.parse_args()
    ship(chosen.work, chosen.out)
    print(f"{chosen.out}: {chosen.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
