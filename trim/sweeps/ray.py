"""A sweep's cells as tasks of Ray (the extra `ray`), on one machine or on several.

On several machines the folder of the sweep, the model, the texts and this package must have the same path on each, as
on a shared file system. A task asks for one GPU where the cluster has any. A cell whose worker is lost is run again and
resumes after its last complete block.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from trim.errors import SettingsError, TrimError
from trim.runs.json_files import write_json
from trim.sweeps.folder import CellOutcome, Sweep, open_sweep
from trim.sweeps.settings import Cell

if TYPE_CHECKING:
    from trim.sweeps.cell import CellMaker

EXTRA = "trim-lab[ray]"
MAX_RETRIES = 5  # of a cell whose worker is lost


def make_on_ray(
    sweep: Sweep, cells: list[Cell], address: str, dense: Callable[[tuple[float, ...]], None]
) -> Iterator[CellOutcome]:
    """Make cells on Ray, and yield each when it is done.

    Args:
        sweep: the sweep.
        cells: the cells to make.
        address: "local", or the address of a cluster.
        dense: receives the dense model's perplexities, which are measured first.

    Raises:
        SettingsError: Ray is not installed, or there is no cluster at the address.
    """
    with _cluster(address) as ray:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
        options = {"num_gpus": gpus, "num_cpus": 1, "max_retries": MAX_RETRIES}
        path = str(sweep.path.resolve())
        answer = ray.get(ray.remote(_measure_dense).options(**options).remote(path))
        if isinstance(answer, TrimError):
            raise answer
        dense(answer)
        task = ray.remote(_make_cell).options(**options)
        running = {task.remote(path, cell.id): cell for cell in cells}
        try:
            while running:
                (finished,), _ = ray.wait(list(running), num_returns=1)
                cell = running.pop(finished)
                try:
                    ray.get(finished)
                except ray.exceptions.RayError as error:
                    write_json(sweep.problem_path(cell), {"problem": f"its worker failed: {error}"})
                yield sweep.outcome(cell)
        finally:
            for left in running:
                ray.cancel(left, force=True)


def _measure_dense(path: str) -> tuple[float, ...] | TrimError:
    try:
        return _maker(path).measure_dense()
    except TrimError as error:
        return error


def _make_cell(path: str, name: str) -> None:
    maker = _maker(path)
    maker.make(maker.sweep.cells[name])


@functools.lru_cache(maxsize=1)
def _maker(path: str) -> "CellMaker":
    """Return the maker of this worker process; it is cached, because it reads the model and the texts."""
    from trim.sweeps.cell import CellMaker

    return CellMaker(open_sweep(path))


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[ModuleType]:
    """Connect to Ray, and stop it afterwards if it was started here."""
    try:
        import ray
    except ImportError:
        raise SettingsError(
            f"--ray needs the package ray; install it: python -m pip install '{EXTRA}'"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        ray.init(
            address=None if address == "local" else address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"there is no Ray cluster at {address!r} ({error}); start one with: ray start --head"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
