"""Read a user's text files in pieces, so that a text may be larger than memory."""

import codecs
import io
import json
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trim.errors import CorpusError, TrimError
from trim.names import format_bytes, one_line

if TYPE_CHECKING:
    import pyarrow.parquet

FILE_TYPES = (".txt", ".jsonl", ".parquet")
MAX_TEXT_BYTES = 4 * 2**30  # reading it takes half a minute
MAX_DOCUMENT_BYTES = 128 * 2**20
SEPARATOR = "\n\n"
_CHUNK_BYTES = 2**20
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Text:
    """A text, or a part of a longer one, that is read in pieces each time it is needed.

    Attributes:
        read: yields the longer text in pieces, in order.
        start: where the part begins, in characters.
        stop: where it ends, in characters.
    """

    read: Callable[[], Iterator[str]]
    start: int
    stop: int

    @classmethod
    def of(cls, text: str) -> "Text":
        """Wrap a text that is in memory."""
        return cls(lambda: iter([text]), 0, len(text))

    def __len__(self) -> int:
        return self.stop - self.start

    def pieces(self) -> Iterator[str]:
        """Yield the part in pieces, in order."""
        offset = 0
        for piece in self.read():
            if offset >= self.stop:
                return
            if offset + len(piece) > self.start:
                yield piece[max(self.start - offset, 0) : self.stop - offset]
            offset += len(piece)

    def excerpts(self, starts: Sequence[int], size: int) -> list[str]:
        """Read some excerpts of the part in one pass.

        Args:
            starts: where each begins, in characters from the beginning of the part.
            size: characters of each.
        """
        order = sorted(range(len(starts)), key=lambda number: starts[number])
        begins = [starts[number] for number in order]
        found: list[list[str]] = [[] for _ in starts]
        offset = 0
        for piece in self.pieces():
            first, last = bisect_right(begins, offset - size), bisect_left(begins, offset + len(piece))
            for number, begin in zip(order[first:last], begins[first:last], strict=True):
                found[number].append(piece[max(begin - offset, 0) : begin + size - offset])
            offset += len(piece)
            if begins and offset >= begins[-1] + size:
                break
        return ["".join(parts) for parts in found]


def file_text(path: Path, split: str) -> Text:
    """Open a part of a user's text.

    About the first four fifths of its characters are for calibration, the rest for evaluation; "whole" opens all.
    Documents (lines of a .jsonl, rows of a .parquet) are not split, and are joined by a blank line; a single
    one, such as a .txt, is split at the first space or line end after four fifths. The file is read once here, so that
    its errors are raised here.

    Raises:
        CorpusError: the file cannot be read, is too large, or holds no text.
    """
    name, kind = one_line(path.name), path.suffix.lower()
    reader = {".txt": _plain, ".jsonl": _json_lines, ".parquet": _parquet_rows}[kind]

    def read() -> Iterator[str]:
        try:
            if path.stat().st_size > MAX_TEXT_BYTES:
                raise _too_large(name, path.stat().st_size)
            yield from reader(path, name)
        except OSError as error:
            raise CorpusError(
                f"{name} cannot be read ({error.strerror}); check the path and its permissions"
            ) from error
        except (ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError) as error:
            if isinstance(error, TrimError):
                raise
            raise CorpusError(f"{name} is damaged ({one_line(str(error))}); save it again") from error

    return part_of(read, split, name, "" if kind == ".txt" else SEPARATOR)


def part_of(read: Callable[[], Iterator[str]], split: str, name: str, separator: str = SEPARATOR) -> Text:
    """Choose a part of some documents.

    Args:
        read: yields the documents, or the pieces of one.
        split: "calibration", "evaluation" or "whole".
        name: the text's name in messages.
        separator: the text between two documents; empty where `read` yields the pieces of one.

    Raises:
        CorpusError: there is no text in it, or too much.
    """
    sizes, total, blank = array("Q"), 0, True
    for document in read():
        sizes.append(len(document))
        total += len(document)
        blank = blank and not document.strip()
        if total > MAX_TEXT_BYTES:
            raise _too_large(name, total)
    if blank:
        raise CorpusError(f"{name} holds no text; give a file with at least a few thousand words")

    def joined() -> Iterator[str]:
        for number, document in enumerate(read()):
            yield separator + document if number else document

    characters = total + len(separator) * (len(sizes) - 1)
    if split == "whole":
        return Text(joined, 0, characters)
    if not separator or len(sizes) == 1:
        border = _space_after(joined, 4 * total // 5, total)
        return Text(joined, 0, border) if split == "calibration" else Text(joined, border, characters)
    before, border = sizes[0], 1
    while border < len(sizes) - 1 and before < 0.8 * total:
        before += sizes[border]
        border += 1
    end = before + len(separator) * (border - 1)
    return Text(joined, 0, end) if split == "calibration" else Text(joined, end + len(separator), characters)


def _space_after(read: Callable[[], Iterator[str]], least: int, total: int) -> int:
    """Return the end of the first space at or after an offset, or the offset itself at the end of the text."""
    offset, space = 0, re.compile(r"\s")
    for piece in read():
        found = space.search(piece, max(least - offset, 0)) if offset + len(piece) > least else None
        if found is not None:
            return offset + found.end() if offset + found.end() < total else least
        offset += len(piece)
    return least


def _too_large(name: str, size: int) -> CorpusError:
    return CorpusError(
        f"{name} holds {format_bytes(size)}, more than the {format_bytes(MAX_TEXT_BYTES)} that can be read; "
        "give a part of it, calibration needs less than a megabyte"
    )


def _encoding(path: Path) -> str:
    """Return the encoding that the file's byte order mark names; UTF-8 without one."""
    with path.open("rb") as file:
        begin = file.read(4)
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if begin.startswith(mark)), "utf-8-sig")


def _plain(path: Path, name: str) -> Iterator[str]:
    """Yield the text of a .txt file in pieces."""
    encoding = _encoding(path)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    offset, ends = 0, False
    with path.open("rb") as file:
        while not ends:
            chunk = file.read(_CHUNK_BYTES)
            ends = not chunk
            try:
                piece = decoder.decode(chunk, final=ends)
            except UnicodeDecodeError as error:
                wrong = offset + error.start + len(chunk) - len(error.object)
                raise CorpusError(_not_decoded(name, encoding, wrong)) from error
            if offset == 0 and 10 * piece.count("\0") > len(piece):
                raise CorpusError(
                    f"{name} looks like UTF-16 without its mark; save it as UTF-8, for example: "
                    "iconv -f utf-16le -t utf-8 OLD.txt > NEW.txt"
                )
            offset += len(chunk)
            yield piece


def _not_decoded(name: str, encoding: str, offset: int) -> str:
    if encoding != "utf-8-sig":
        return f"{name} begins as {encoding.upper()} and is damaged at byte {offset:,}; save it again"
    return (
        f"{name} is not UTF-8 (byte {offset:,} cannot be read); save it as UTF-8, for a Western European text for "
        "example: iconv -f latin1 -t utf-8 OLD.txt > NEW.txt"
    )


def _json_lines(path: Path, name: str) -> Iterator[str]:
    """Yield the documents of a .jsonl file."""
    encoding, number = _encoding(path), 0
    with path.open("rb") as file:
        lines = file if encoding == "utf-8-sig" else io.TextIOWrapper(file, encoding, newline="\n")
        while True:
            number += 1
            try:
                line = lines.readline(MAX_DOCUMENT_BYTES + 1)
                if not line:
                    return
                content = line.encode() if isinstance(line, str) else line
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise _document_too_large(f"line {number:,} of {name}")
                document = _document(content.removeprefix(codecs.BOM_UTF8), f"line {number:,} of {name}")
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"line {number:,} of {name} is not UTF-8; save the file as UTF-8"
                ) from error
            if document.strip():
                yield document


def _document(line: bytes, name: str) -> str:
    """Return the text of a line; empty where it has none."""
    if not line.strip():
        return ""
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise CorpusError(f'{name} is not JSON; every line must look like {{"text": "…"}}') from error
    if not isinstance(row, dict) or "text" not in row or not isinstance(row["text"], str | None):
        raise CorpusError(f'{name} has no text in a field "text"; every line must look like {{"text": "…"}}')
    text = row["text"] or ""
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a pair of \uXXXX
        raise CorpusError(f"{name} holds half a character; save it again as UTF-8") from error
    return text


def _document_too_large(name: str) -> CorpusError:
    return CorpusError(
        f"{name} is longer than {format_bytes(MAX_DOCUMENT_BYTES)}; write a long text as several documents"
    )


def _parquet_rows(path: Path, name: str) -> Iterator[str]:
    """Yield the documents of a .parquet file."""
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
                _check_column(file.schema_arrow, name)
                rows = _rows_at_once(file, name)
            # A dictionary holds a text that is in many rows once.
            with pyarrow.parquet.ParquetFile(content, read_dictionary=["text"]) as file:
                for batch in file.iter_batches(rows, columns=["text"]):
                    for value in batch.column(0):
                        document = value.as_py()
                        if isinstance(document, bytes):
                            document = document.decode()
                        if document is not None and document.strip():
                            yield document
        except UnicodeDecodeError as error:
            raise CorpusError(
                f'the column "text" of {name} holds bytes that are not UTF-8; save it as strings'
            ) from error
        except (pyarrow.ArrowException, OSError) as error:
            raise CorpusError(f"{name} is not a parquet file, or is damaged; save it again") from error


def _rows_at_once(file: "pyarrow.parquet.ParquetFile", name: str) -> int:
    """Return how many rows to read at once for about a megabyte of text, from the unpacked size of the row groups."""
    (column,) = (
        number
        for number in range(len(file.schema))
        if file.schema.column(number).path.split(".")[0] == "text"
    )
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    largest = max(
        (group.column(column).total_uncompressed_size / max(group.num_rows, 1) for group in groups), default=1
    )
    if largest > MAX_DOCUMENT_BYTES:
        raise _document_too_large(f"a row of {name}")
    return max(1, min(1024, int(_CHUNK_BYTES // max(largest, 1))))


def _check_column(schema: "pyarrow.Schema", name: str) -> None:
    """Require exactly one column "text", of strings or bytes."""
    from pyarrow import types

    if "text" not in schema.names:
        raise CorpusError(
            f'{name} has no column "text", only {one_line(", ".join(schema.names)) or "none"}; rename the one that '
            "holds the text"
        )
    if schema.names.count("text") > 1:
        raise CorpusError(f'{name} has more than one column "text"; rename those that do not hold the text')
    kind = schema.field("text").type
    if types.is_dictionary(kind):
        kind = kind.value_type
    texts = (
        types.is_string, types.is_large_string, types.is_string_view,
        types.is_binary, types.is_large_binary, types.is_binary_view,
    )  # fmt: skip
    if not any(is_kind(kind) for is_kind in texts):
        raise CorpusError(f'the column "text" of {name} holds {kind}, not text; save it as strings')
