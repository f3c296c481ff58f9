"""The Layer page and the Hub: a download is asked about first, and whatever goes wrong is shown on the page."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.app.page import LayerPage
from tests.trim import tiny

pytestmark = pytest.mark.usefixtures("own_laboratory")

NAME = "org/tiny-llama"
SMALL_TEXT = {"windows": "4", "length": "32"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tiny.folder(tmp_path / "published").iterdir()}


def test_a_download_is_asked_about_first(hub, files):
    hub.add(NAME, files)
    page = LayerPage(model=NAME, **SMALL_TEXT)
    assert any("kB" in text and "would be downloaded" in text for text in page.texts)
    assert "model.safetensors" not in hub.downloaded()
    assert page.charts == {}
    page.press("Download and load")
    assert "model.safetensors" in hub.downloaded()
    assert len(page.charts) == 4
    assert len(LayerPage(model=NAME, **SMALL_TEXT).charts) == 4, "the second time it is here"


def test_what_the_hub_refuses(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.refuse(NAME, 403, "GatedRepo")
    page = LayerPage(model=NAME)
    assert len(page.errors) == 1
    assert "accept its licence" in page.errors[0]
    assert "hf_secret" not in str(page.texts) + str(page.errors)


def test_no_network_and_a_download_that_breaks_off(hub, files, monkeypatch):
    with monkeypatch.context() as unplugged:
        unplugged.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
        page = LayerPage(model=NAME, **SMALL_TEXT)
        assert len(page.errors) == 1
        assert "cannot be reached" in page.errors[0]
    hub.add(NAME, files)
    page.press("Try again")
    assert not page.errors
    hub.refuse(NAME, 503, "")
    page.press("Download and load")
    assert len(page.errors) == 1, "the download breaks off"
    hub.add(NAME, files)
    page.press("Try again")
    if "Download and load" in [button.label for button in page.test.button]:
        page.press("Download and load")
    assert len(page.charts) == 4
