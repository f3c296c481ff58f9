"""Markup and scripts in every text that a user, a model's folder or a run brings: shown as text, never read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from app.services.results.report import run_report
from app.services.runs.store import STORE
from tests.app.page import visit
from tests.app.small_runs import PATHS, make_run, settings
from trim.runs.json_files import settings_fingerprint
from trim.runs.writer import RunWriter, write_notes

ROOT = Path(__file__).parents[2]
SCRIPT = "<script>alert(1)</script>"
EVIL = f"{SCRIPT}<img src=x onerror=alert(1)>[click](https://evil.example)![pic](https://evil.example/a.png)<b>x</b>"
# Any of these in a text that is read as Markdown or by Plotly would be more than text.
LIVE_MARKDOWN = re.compile(r"(?<!\\)\]\(https://evil|(?<!\\)<(?:script|img|b>)|!\[pic\]")
LIVE_PLOTLY = re.compile(r"<(?:script|img|a )", re.I)
# What the browser shows letter by letter, whatever is in it.
LETTERS = {
    "options", "default", "value", "code_text", "raw_values", "raw_value", "set_value", "query_params", "query_string",
    "placeholder", "page", "url", "file_name", "id", "data", "alt", "arrow_data",
}  # fmt: skip
OURS = "".join(
    f"<script>{(ROOT / 'app/ui/common' / name).read_text(encoding='utf-8')}</script>"
    for name in ("back.js", "theme.js", "copy.js")
)
PAGES = {
    "model": {"run": "evil", "from": "evil"},
    "runs": {"run": "evil"},
    "compare": {"a": f"evil/0.{PATHS[0]}", "b": f"evil/0.{PATHS[0]}/uniform"},
    "paper": {"paper_run": "evil"},
    "stored": {"run": "evil", "layer": f"0.{PATHS[0]}"},
    "learn": {"step": EVIL},
}
TEXT = {"corpus": EVIL, "windows": 2, "length": 16, "tokens_sha256": "0", "perplexity": 12.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in which every text is evil."""
    made = tmp_path_factory.mktemp("runs")
    path = make_run(
        made / "evil",
        name=EVIL,
        metrics={
            "perplexities": [TEXT],
            "dense_perplexities": [TEXT],
            "continuations": [{"prompt": EVIL, "new_tokens": 3, "texts": {"dense": EVIL, EVIL: EVIL}}],
        },
    )
    write_notes(path, name=EVIL, note=EVIL)
    recorded = settings()
    request = recorded["request"] | {"model": EVIL, "corpus": EVIL}
    evil = {
        "request": request,
        "model": {"title": EVIL, "weights": EVIL},
        "compute": recorded["compute"] | {"device": EVIL, "device_name": EVIL, "dtype": EVIL},
        "versions": {EVIL: EVIL},
    }
    config = json.loads((path / "config.json").read_text())
    config["settings"] |= evil
    config["fingerprint"] = settings_fingerprint(config["settings"])
    (path / "config.json").write_text(json.dumps(config))
    manifest = json.loads((path / "manifest.json").read_text())
    if "fingerprint" in manifest:
        manifest["fingerprint"] = config["fingerprint"]
        (path / "manifest.json").write_text(json.dumps(manifest))
    with RunWriter.create(made / "half", recorded | evil, name=EVIL) as writer:
        writer.log({"event": "Progress", "what": EVIL, "done": 1, "of": 2, "seconds_left": None})
    return made


@pytest.fixture(autouse=True)
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those runs, and none that came with the app."""
    monkeypatch.setenv("TRIM_RUNS", str(folder))
    monkeypatch.setattr("app.services.runs.store.STORE._shipped", lambda: tmp_path)


def texts(message: Message, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a message to the browser, with its field."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        for each in values:
            if isinstance(each, Message):
                yield from texts(each, f"{place}.{field.name}")
            elif isinstance(each, str):
                yield f"{place}.{field.name}", each


def elements(test: AppTest) -> Iterator[Message]:
    """Yield everything on a page."""
    for block in (test.main, test.sidebar):
        yield from (element.proto for element in block if getattr(element, "proto", None) is not None)


def check(test: AppTest) -> int:
    """Assert that no text of a page is interpreted; return how many of the texts come from a stranger."""
    shown = 0
    for element in elements(test):
        assert not (getattr(element, "allow_html", False) and "evil" in str(element)), element
        for place, text in texts(element):
            if text == OURS:
                continue
            field = place.rpartition(".")[2]
            if field == "spec":  # its JSON spells "<" in a way of its own
                text = json.dumps(json.loads(text))
                assert not LIVE_PLOTLY.search(text), (place, LIVE_PLOTLY.findall(text))
                assert "<b>x" not in text
            elif field not in LETTERS and type(element).__name__ not in ("Json", "Code"):
                assert not LIVE_MARKDOWN.search(text), (type(element).__name__, place, text[:300])
            shown += "alert" in text
    return shown


@pytest.mark.parametrize(("page", "address"), [*PAGES.items(), ("model", {"run": "half"})])
def test_nothing_is_read_into_texts_on_pages(page, address):
    assert check(visit(page, **address)), "the page shows none of the texts: nothing was checked"


def test_nothing_is_read_into_a_report():
    run = STORE.open("evil")
    html = run_report(run, [f"0.{PATHS[0]}"]).decode()
    assert "evil.example" in html
    assert SCRIPT not in html
    assert "<img src=x" not in html
    assert "<b>x</b>" not in html
