"""Files of a user's own: their disjoint parts, encodings, columns of other tools, and what cannot be read."""

import tracemalloc

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trim.calibration.corpus_files import json_lines, load, parquet, refusal, text_of
from trim.calibration import text_files


@pytest.mark.parametrize(
    ("ending", "content_of"),
    [
        (".TXT", lambda documents: "\n\n".join(documents).encode()),
        (".JSONL", json_lines),
        (".PARQUET", lambda documents: parquet([*documents, None])),
    ],
)
def test_a_users_file_has_two_parts(ending, content_of, tmp_path):
    documents = [f"document {number} says {'x' * (number % 7)}" for number in range(100)]
    path = tmp_path / f"my text{ending}"
    path.write_bytes(content_of(documents))
    calibration, evaluation = (
        "".join(text_files.file_text(path, split).pieces()) for split in ("calibration", "evaluation")
    )
    share = len(evaluation) / (len(calibration) + len(evaluation))
    assert 0.15 < share < 0.25
    assert "document 0 " in calibration
    assert "document 99 " in evaluation
    parted = [f"document {n} says" in calibration and f"document {n} says" in evaluation for n in range(100)]
    assert not any(parted)
    assert text_of(load(path, split="evaluation", windows=2)) == evaluation[:32]
    assert len(load(path, split="whole", windows=None)) > len(calibration) // 16
    assert all(text_of(window) in calibration for window in load(str(path)))


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=12))
def test_the_parts_hold_every_document_once(documents):
    whole, calibration, evaluation = (
        "".join(text_files.part_of(lambda: iter(documents), split, "a").pieces())
        for split in ("whole", "calibration", "evaluation")
    )
    assert whole == "\n\n".join(documents)
    if len(documents) == 1:
        assert calibration + evaluation == whole
    else:
        assert calibration + "\n\n" + evaluation == whole
        (last,) = [n for n in range(1, len(documents)) if "\n\n".join(documents[:n]) == calibration]
        assert sum(map(len, documents[: last - 1])) < 0.8 * sum(map(len, documents))


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.integers(1, 7))
def test_a_lone_document_is_parted_at_a_space_however_it_is_read(text, size):
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    for split in ("whole", "calibration", "evaluation"):
        at_once = text_files.part_of(lambda: iter([text]), split, "a", "")
        in_pieces = text_files.part_of(lambda: iter(pieces), split, "a", "")
        assert (in_pieces.start, in_pieces.stop) == (at_once.start, at_once.stop)
        assert "".join(in_pieces.pieces()) == text[at_once.start : at_once.stop]


@given(
    st.lists(st.text(max_size=5), max_size=8),
    st.lists(st.integers(0, 30), max_size=6),
    st.integers(1, 9),
    st.data(),
)
def test_excerpts(pieces, places, size, data):
    joined = "".join(pieces)
    start = data.draw(st.integers(0, len(joined)))
    stop = data.draw(st.integers(start, len(joined)))
    text = text_files.Text(lambda: iter(pieces), start, stop)
    part = joined[start:stop]
    assert text.excerpts(places, size) == [part[place : place + size] for place in places]


def test_a_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"word " * 100)
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json_lines(["word " * 100]))
    for name in ("a.txt", "a.jsonl"):
        assert next(text_files.file_text(tmp_path / name, "calibration").pieces()).startswith("word")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "no text"),
        ("a.txt", b" \n\t ", "no text"),
        ("a.txt", b"caf\xe9 " * 100, "byte 3"),
        ("a.txt", b"short", "less than one window of 16"),
        ("a.jsonl", b"", "no text"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', "line 3"),
        ("a.jsonl", b'{"text": "a"}\n{"words": "b"}\n', 'line 2 of a.jsonl has no text in a field "text"'),
        ("a.jsonl", b'{"text": 3}\n', "line 1"),
        ("a.jsonl", b'["text"]\n', "line 1"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "not UTF-8"),
        ("a.jsonl", b"[" * 100_000, "line 1"),
        ("a.jsonl", b'{"text": null}\n', "no text"),
        ("a.jsonl", b"\xff\xfe{", "line 1"),
        ("a.txt", b"\xff\xfea", "damaged at byte"),
        ("a.txt", "word ".encode("utf-16-le") * 100, "iconv -f utf-16le"),
        ("a.parquet", b"", "not a parquet file"),
        ("a.parquet", b"PAR1 and then nothing", "not a parquet file"),
        ("a.parquet", parquet(["a"], "words"), 'no column "text", only words'),
        ("a.parquet", parquet([None, ""]), "no text"),
        ("a.pdf", b"%PDF", "give one of .txt, .jsonl, .parquet"),
        ("a\x1b<b>.pdf", b"", "a <b>.pdf"),
    ],
)
def test_files_that_cannot_be_read(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_recognized_by_its_mark(encoding, tmp_path):
    (tmp_path / "a.txt").write_bytes("häß 是\r\n".encode(encoding) * 1)
    (tmp_path / "a.jsonl").write_bytes('{"text": "häß 是"}\n{"text": "b"}\n'.encode(encoding))
    for name, expected in (("a.txt", "häß 是\n"), ("a.jsonl", "häß 是\n\nb")):
        assert "".join(text_files.file_text(tmp_path / name, "whole").pieces()) == expected


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.large_string()),
        pyarrow.binary(),
        pyarrow.large_binary(),
    ],
    ids=str,
)
def test_text_columns_of_other_tools(kind, tmp_path):
    rows = pyarrow.array(["first é", None, " ", "second"])
    column = rows.dictionary_encode().cast(kind) if pyarrow.types.is_dictionary(kind) else rows.cast(kind)
    pyarrow.parquet.write_table(pyarrow.table({"text": column, "n": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    assert "".join(text_files.file_text(tmp_path / "a.parquet", "whole").pieces()) == "first é\n\nsecond"


@pytest.mark.parametrize("kind", ["string[python]", "string[pyarrow]", "str", "category", "object"])
def test_text_columns_of_pandas(kind, tmp_path):
    pandas.DataFrame({"text": pandas.Series(["first", None, "second"], dtype=kind)}).to_parquet(
        tmp_path / "a.parquet"
    )
    assert "".join(text_files.file_text(tmp_path / "a.parquet", "whole").pieces()) == "first\n\nsecond"


def test_columns_that_hold_no_text(tmp_path):
    path, words = tmp_path / "a.parquet", pyarrow.array(["a", "b"])
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([words, words], names=["text", "text"]), path)
    assert "more than one column" in refusal(path)
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([b"\xff"])}), path)
    assert "not UTF-8" in refusal(path)
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([["a"], ["b"]])}), path)
    assert "list<" in refusal(path)
    pyarrow.parquet.write_table(pyarrow.table({"text": [0, 1, 2]}), path)
    assert "int64" in refusal(path)


def test_a_null_row_is_the_same_in_every_format(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": null}\n{"text": "b"}\n')
    (tmp_path / "a.parquet").write_bytes(parquet(["a", None, "b"]))
    for name in ("a.jsonl", "a.parquet"):
        assert "".join(text_files.file_text(tmp_path / name, "whole").pieces()) == "a\n\nb"


def test_a_few_bytes_that_unpack_to_much_text(tmp_path):
    """A parquet file holds a text that stands in many rows once; memory must not hold it in all of them."""
    rows = pyarrow.array(["word " * 200_000] * 500).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    tracemalloc.start()
    windows = load(tmp_path / "a.parquet")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert windows.shape == (4, 16)
    assert peak < 30e6


def test_a_file_too_large_to_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_TEXT_BYTES", 10)
    (tmp_path / "a.txt").write_text("more than ten")
    assert "13 bytes" in refusal(tmp_path / "a.txt")


def test_places_that_are_not_files(tmp_path):
    assert "no file" in refusal(tmp_path / "gone.txt")
    assert "no file" in refusal("gone.jsonl")
    assert "give one of" in refusal(tmp_path)
    assert "closest names: wikitext2" in refusal("wikitext")
    assert "closest names" in refusal("x" * 5000)
    assert "closest names" in refusal("\0")
