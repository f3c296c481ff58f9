"""Named texts: the demo's disjoint parts, WikiText-2 and C4 as their authors read them, and what the Hub refuses."""

import gzip
import random
import string
import sys
import time

import pytest
import torch
from huggingface_hub import constants

from tests.trim.calibration.corpus_files import json_lines, load, parquet, refusal, text_of
from tests.trim.fake_hub import FakeHub
from trim.calibration import named_texts

WIKITEXT, C4 = "Salesforce/wikitext", "allenai/c4"


@pytest.fixture
def wikitext(hub: FakeHub) -> dict[str, bytes]:
    files = {
        named_texts.WIKITEXT_FILES["calibration"]: parquet([f"train {number}" for number in range(50)]),
        named_texts.WIKITEXT_FILES["evaluation"]: parquet(
            ["", " = Title = \n", *map("test {}".format, range(50))]
        ),
    }
    hub.add(WIKITEXT, files, kind="datasets")
    return files


@pytest.fixture
def c4(hub: FakeHub) -> list[str]:
    """Documents of 1 to 120 tokens."""
    documents = ["".join(random.Random(n).choices(string.ascii_letters, k=n)) for n in range(1, 121)]
    hub.add(
        C4,
        {
            named_texts.C4_FILES["calibration"]: gzip.compress(json_lines(documents)),
            named_texts.C4_FILES["evaluation"]: gzip.compress(
                json_lines([f"validation {n}" for n in range(1200)])
            ),
        },
        kind="datasets",
    )
    return documents


def test_the_demo_has_two_parts():
    calibration = load("demo", windows=8, length=64)
    evaluation = load("demo", split="evaluation", windows=None, length=512)
    assert calibration.shape == (8, 64)
    assert calibration.dtype == torch.int64
    told = named_texts.demo_text("calibration"), named_texts.demo_text("evaluation")
    long_ones = [{line for line in text.split("\n") if len(line) > 200} for text in told]
    assert min(map(len, long_ones)) > 100
    assert not long_ones[0] & long_ones[1]
    assert evaluation.shape[0] == len(told[1].encode()) // 512
    assert text_of(evaluation[:2]) in told[1]


def test_wikitext(hub, wikitext):
    reported = []
    evaluation = load("wikitext2", split="evaluation", windows=None, length=10, progress=reported.append)
    joined = "\n\n".join(["", " = Title = \n", *map("test {}".format, range(50))])
    assert text_of(evaluation) == joined[: len(joined) // 10 * 10]
    assert any("Downloading" in step.what for step in reported)
    calibration = load("wikitext2")
    assert "test" not in text_of(calibration)
    hub.requests.clear()
    assert torch.equal(load("wikitext2"), calibration)
    assert hub.requests == []


def test_c4_windows_come_from_documents_longer_than_them(hub, c4):
    windows = load("c4", windows=30, length=60)
    sources = [next(d for d in c4 if text_of(window) in d) for window in windows]
    assert all(len(source) > 60 for source in sources)
    assert len(set(sources)) == 30
    starts = [source.index(text_of(window)) for source, window in zip(sources, windows, strict=True)]
    assert len(set(starts)) > 5
    assert hub.downloaded() == {named_texts.C4_FILES["calibration"]}


def test_few_long_documents_of_c4_are_used_again(c4):
    windows = load("c4", windows=5, length=118)
    assert {next(d for d in c4 if text_of(window) in d) for window in windows} == set(c4[-2:])
    assert "longer than a window of 120 tokens" in refusal("c4", length=120)
    assert "shorter windows" in refusal("c4", length=5000)


def test_c4_for_evaluation_is_the_beginning_of_its_validation_part(c4):
    joined = " ".join(f"validation {n}" for n in range(1100))
    assert (
        text_of(load("c4", split="evaluation", windows=None, length=100))
        == joined[: len(joined) // 100 * 100]
    )


@pytest.mark.parametrize("source", ["wikitext2", "c4"])
def test_refusals_of_the_hub(hub, source, monkeypatch):
    name = {"wikitext2": WIKITEXT, "c4": C4}[source]
    assert "the Hub knows no dataset" in refusal(source)
    hub.refuse(name, 403, "GatedRepo", kind="datasets")
    assert f"https://huggingface.co/datasets/{name}" in refusal(source)
    hub.add(name, {}, kind="datasets")
    assert "lacks a file" in refusal(source)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    before = time.monotonic()
    assert "cannot be reached" in refusal(source)
    assert time.monotonic() - before < 5


def test_damaged_downloads(hub):
    hub.add(WIKITEXT, {named_texts.WIKITEXT_FILES["calibration"]: b"not a parquet file"}, kind="datasets")
    assert "damaged" in refusal("wikitext2")
    hub.add(C4, {named_texts.C4_FILES["calibration"]: b"no gzip"}, kind="datasets")
    assert "damaged" in refusal("c4")
    hub.add(WIKITEXT, {named_texts.WIKITEXT_FILES["evaluation"]: parquet(["a"], "words")}, kind="datasets")
    assert 'no field "text"' in refusal("wikitext2", split="evaluation")


def test_without_the_package_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install datasets" in refusal("wikitext2")
