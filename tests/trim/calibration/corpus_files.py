"""Read windows of any text with the byte tokenizer, and write files of texts."""

import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

import trim
from tests.trim import tiny


def text_of(windows: torch.Tensor) -> str:
    """Return the text of the windows."""
    return tiny.tokenizer().decode(windows.reshape(-1).tolist())


def load(source: str | Path, **settings: object) -> torch.Tensor:
    """Read a few short windows of a text."""
    return trim.load_corpus(source, tiny.tokenizer(), **{"windows": 4, "length": 16} | settings)


def refusal(source: str | Path, **settings: object) -> str:
    """Return the message that refuses the text."""
    with pytest.raises(trim.CorpusError) as caught:
        load(source, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parquet(rows: list[str | None], column: str = "text") -> bytes:
    """Return a parquet file of one column."""
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({column: rows}), content)
    return content.getvalue()


def json_lines(rows: list[str]) -> bytes:
    """Return a JSON Lines file of documents."""
    return "".join(json.dumps({"text": row}) + "\n" for row in rows).encode()
