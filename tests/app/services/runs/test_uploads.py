"""Texts that readers bring."""

import pytest

from app.services.runs.uploads import store_text


def test_the_same_content_may_come_again_under_another_ending(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path))
    content = b'{"text": "words"}\n'
    kept = [store_text(name, content) for name in ("a.txt", "a.jsonl", "a.JSONL", "a.txt")]
    assert [path.suffix for path in kept] == [".txt", ".jsonl", ".jsonl", ".txt"]
    assert {path.read_bytes() for path in kept} == {content}
    assert len(list((tmp_path / "texts").glob("*/*"))) == 2


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("my speech.TXT", "my speech.txt"),
        ("Gespräche (2019).txt", "Gespräche _2019_.txt"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("..txt", "_.txt"),
        ("ü" * 300 + ".parquet", "ü" * 60 + ".parquet"),
    ],
)
def test_a_text_has_its_name(tmp_path, monkeypatch, name, stored):
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path))
    path = store_text(name, b"words")
    assert path.name == stored
    assert path.parent.parent == tmp_path / "texts"
