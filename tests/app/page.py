"""Pages without a browser: open and run them, and read what is on them."""

import base64
import json
import re
import time
import zlib
from pathlib import Path

import numpy as np
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240  # the first visit on a machine makes the demo model
POLL_SECONDS = 0.05


def decode(message: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """Decode a message of `encode`, as the browser does."""
    length = int.from_bytes(message[:4], "little")
    content, body = json.loads(message[4 : 4 + length]), message[4 + length :]
    if content.pop("packed"):
        body = zlib.decompress(body)
    arrays = {
        name: np.frombuffer(body, dtype, count, offset)
        for name, (dtype, offset, count) in content.pop("arrays").items()
    }
    return content, arrays


def run_page(test: AppTest, *changes: object) -> AppTest:
    """Run the page. `changes` change its controls while Python evaluates the call; their values are not used."""
    test.run()
    assert not test.exception, [each.value for each in test.exception]
    return test


def new_page(page: str, **address: str) -> AppTest:
    """Return a page before its script runs, by its path and the parameters of its address; "" is the Layer page."""
    test = AppTest.from_file(str(ROOT / "app/main.py"), default_timeout=PATIENCE_SECONDS)
    for name, value in address.items():
        test.query_params[name] = value
    if page:
        test._page_hash = calc_hash(page)  # switch_page would need a first run, of the Layer page
    return test


def visit(page: str, **address: str) -> AppTest:
    """Open a page by its address."""
    return run_page(new_page(page, **address))


def page_text(test: AppTest) -> str:
    """Return all text on a page."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "metric")
    return "\n".join(str(each.value) for kind in kinds for each in test.get(kind))


def charts(test: AppTest) -> dict[str, dict]:
    """Return every chart's figure, as the browser gets it, by its key."""
    return {chart.key: json.loads(chart.proto.spec) for chart in test.get("plotly_chart")}


def cards(test: AppTest) -> dict[str, dict]:
    """Return every chart's figure by the key of its card."""
    return {_card(key): figure for key, figure in charts(test).items()}


class LayerPage:
    """One reader's visit of the Layer page; `test` is its AppTest."""

    def __init__(self, **address: str) -> None:
        self.test = new_page("", **address)
        self.run()

    def run(self) -> "LayerPage":
        """Run the script, and again while the page shows the progress of a job."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._run_once()
        while self.test.get("progress"):
            assert time.monotonic() < deadline, "the page still shows progress"
            time.sleep(POLL_SECONDS)
            self._run_once()
        assert not self.test.exception, [each.value for each in self.test.exception]
        return self

    def _run_once(self) -> None:
        for box in self.test.selectbox:
            if box.value is not None and box.format_func(box.value) not in box.options:
                box.options.append(box.format_func(box.value))  # AppTest knows no option that a reader typed
        self.test.run()

    def set(self, kind: str, key: str, value: object) -> "LayerPage":
        """Change one control as a reader would."""
        getattr(self.test, kind)(key=key).set_value(value)
        return self.run()

    def press(self, label: str) -> "LayerPage":
        """Press the button with that label."""
        (button,) = [each for each in self.test.button if each.label == label]
        button.click()
        return self.run()

    @property
    def charts(self) -> dict[str, dict]:
        """Return every chart, as the browser gets it: a linked one by its name, a figure by the key of its card."""
        content, _ = self.linked
        linked = {panel["name"]: panel for panel in content.get("panels", ())}
        return linked | cards(self.test)

    @property
    def linked(self) -> tuple[dict, dict[str, np.ndarray]]:
        """Return what the component of the linked charts is sent: what it draws, and where each row is."""
        return linked(self.test)

    @property
    def chart_bytes(self) -> dict[str, int]:
        """Return how much every chart sends to the browser, by the key of its card."""
        linked = {each.key or "linked": len(each.proto.bytes) for each in self.test.get("bidi_component")}
        return linked | {
            _card(chart.key): len(chart.proto.spec.encode()) for chart in self.test.get("plotly_chart")
        }

    @property
    def metrics(self) -> dict[str, str]:
        """Return the line of numbers by their labels."""
        return {label: value for label, value, *_ in self.linked[0].get("numbers", ())}

    @property
    def texts(self) -> list[str]:
        """Headings and captions, as Markdown."""
        return [
            each.value
            for kind in ("title", "subheader", "markdown", "caption")
            for each in self.test.get(kind)
        ]

    @property
    def errors(self) -> list[str]:
        """Return the messages in red boxes."""
        return [each.value for each in self.test.error]


def _card(chart_key: str) -> str:
    """Return the key of a chart's card: the chart's own, without the name of the view, which begins with a capital."""
    return re.sub(r"_[A-Z].*", "", chart_key)


def linked(test: AppTest) -> tuple[dict, dict[str, np.ndarray]]:
    """Return what the component of the linked charts is sent: what it draws, and where each row is."""
    messages = test.get("bidi_component")
    return decode(messages[0].proto.bytes) if messages else ({}, {})


def steps(panel: dict, style: str) -> np.ndarray:
    """Return the heights of the histogram of that style in a linked chart."""
    (mark,) = [
        each
        for each in panel["marks"]
        if each["kind"] == "steps" and each["style"] == style and not each["pinned"]
    ]
    return np.array(mark["y"])


def trace(figure: dict, name: str) -> dict:
    """Return the first trace of that name."""
    return next(each for each in figure["data"] if each.get("name") == name)


def numbers(value: object) -> np.ndarray:
    """Return an array of a figure, decoded from the form in which Plotly sends it."""
    if isinstance(value, dict):
        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))
        return array.reshape([int(size) for size in value["shape"].split(",")]) if "shape" in value else array
    return np.asarray(value)
