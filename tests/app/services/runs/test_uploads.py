"""Texts that readers bring."""

from app.services.runs.uploads import store_text


def test_the_same_content_may_come_again_under_another_ending(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path))
    content = b'{"text": "words"}\n'
    kept = [store_text(name, content) for name in ("a.txt", "b.jsonl", "c.JSONL", "d.txt")]
    assert [path.suffix for path in kept] == [".txt", ".jsonl", ".jsonl", ".txt"]
    assert {path.read_bytes() for path in kept} == {content}
    assert len(list((tmp_path / "texts").glob("*/*"))) == 2
