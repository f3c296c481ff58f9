"""Pictures: one browser at a time, in the order asked; what is said without a browser."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import kaleido
import plotly.graph_objects as go
import pytest

from app.services.results import pictures
from app.services.results.pictures import PictureError, Pictures


def test_thirty_readers_one_at_a_time_in_the_order_asked(monkeypatch):
    made, drawing, done = Pictures(), [], []
    asked = ["pdf", "svg", "png"] * 10

    def drawn(self, figure, kind):
        drawing.append(kind)
        assert len(drawing) == len(done) + 1, "two browsers at once"
        time.sleep(0.002)
        done.append(kind)
        return kind.encode()

    monkeypatch.setattr(Pictures, "_drawn", drawn)
    with ThreadPoolExecutor(len(asked)) as readers:
        for place, kind in enumerate(asked, 1):
            readers.submit(made.draw, go.Figure(), kind)
            while made.waiting + len(done) < place:
                time.sleep(0.001)
    assert done == asked
    assert made.waiting == 0


def test_waiting_too_long_or_coming_too_late_is_an_error(monkeypatch):
    made = Pictures()
    monkeypatch.setattr(pictures, "MAX_WAITING", 0)
    with pytest.raises(PictureError, match="Too many"):
        made.draw(go.Figure(), "pdf")
    monkeypatch.setattr(pictures, "MAX_WAITING", 9)
    monkeypatch.setattr(pictures, "MAX_WAIT_SECONDS", -1)
    with pytest.raises(PictureError, match="few minutes"):
        made.draw(go.Figure(), "pdf")
    assert made.waiting == 0


def test_without_a_browser_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pictures, "browser_path", lambda: None)
    with pytest.raises(PictureError, match="apt install chromium"):
        Pictures().draw(go.Figure(), "pdf")


def test_a_browser_that_fails_is_named(monkeypatch, tmp_path):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(pictures, "browser_path", lambda: str(broken))
    monkeypatch.setattr(pictures, "MAX_DRAWING_SECONDS", 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PictureError, match="could not draw"):
        Pictures().draw(go.Figure(layout={"width": 100, "height": 100}), "svg")
    assert list(tmp_path.iterdir()) == [broken], "its folder is gone with it"


def test_a_pdf_is_called_as_its_figure(monkeypatch):
    monkeypatch.setattr(pictures, "browser_path", lambda: "chromium")
    monkeypatch.setattr(
        kaleido,
        "calc_fig_sync",
        lambda figure, opts, kopts: kopts["page_generator"].generate_index().encode(),
    )
    for given, title in (("<b>Gini &lt; 1?</b><br>all", "Gini &lt; 1? all"), (None, "TRIM Lab")):
        drawn = Pictures().draw(
            go.Figure(layout={"width": 100, "height": 100, "title": {"text": given}}), "pdf"
        )
        assert f"<title>{title}</title>" in drawn.decode()
