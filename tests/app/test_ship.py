"""Making the shipped runs, on a tiny model; and the archive that is there."""

import functools
import tarfile
from pathlib import Path

import numpy as np
import pytest

from app import ship
from app.services.runs import shipped
from app.services.runs.importing import check_run
from app.services.runs.store import RunStore
from tests.app.small_runs import record
from tests.trim import tiny
from trim.calibration import corpora
from trim.errors import RunError
from trim.evaluation.settings import EvaluationText
from trim.sweeps.results import results

TINY = {
    "calibration": {"windows": 2, "length": 16, "device": "cpu"},
    "evaluation": EvaluationText("demo", windows=2, length=16),
    "targets": (0.4, 0.7),
    "whole_at": (0.4, 0.7),
    "new_tokens": 4,
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ship")
    text = functools.cache(corpora.demo_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "demo_text", lambda split: text(split)[:10_000])
        model = str(tiny.folder(folder / "model"))
        ship.ship(folder / "work", folder / "runs.tar.xz", model=model, **TINY)
        first = (folder / "runs.tar.xz").read_bytes()
        assert len(first) < 200_000
    return folder / "runs.tar.xz"


@pytest.fixture
def unpacked(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setattr(shipped, "ARCHIVE", archive)
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    return RunStore(lambda: tmp_path / "none")


def test_what_is_shipped(unpacked):
    runs = {entry.id: entry.opened() for entry in unpacked.runs()}
    assert list(runs)[:2] in (["demo-optimal-40", "demo-trim-40"], ["demo-trim-40", "demo-optimal-40"])
    assert set(runs) == {f"demo-{method}-{target}" for method in ("trim", "optimal") for target in (40, 70)}
    assert "rows differ" in runs["demo-trim-70"].notes["note"]
    assert "rows differ" not in runs["demo-trim-40"].notes["note"]
    for name, run in runs.items():
        check_run(run.path)
        assert run.complete
        assert len(run.layers) == 3 * 7
        assert "rounded" in run.notes["note"]
        assert run.notes["note"].startswith("Perplexity")
        assert run.metrics["sparsity"]["realised"] == pytest.approx(int(name[-2:]) / 100, abs=1e-4)
        for key in ("perplexities", "dense_perplexities", "uniform_perplexities"):
            assert len(run.metrics[key]) == 1
        (words,) = run.metrics["continuations"]
        assert set(words["texts"]) == {"dense", "uniform", "trim", "optimal"}
        assert run.layer(run.layers[0]).packed_mask is None
    published, optimal = (
        next(entry.sweep for entry in unpacked.sweeps() if entry.id == f"demo-{name}")
        for name in ("published", "optimal")
    )
    assert [outcome.done for outcome in published.outcomes()] == [True] * 4
    assert [outcome.done for outcome in optimal.outcomes()] == [True] * 4
    assert {outcome.cell.settings.refit for outcome in optimal.outcomes()} == {False, True}
    curves = results(published, published.outcomes())["curves"]
    assert [curve["method"]["allocation"] for curve in curves] == ["uniform", "trim"]
    assert curves[0]["sparsity"] == [0.4, 0.7]


def test_a_cache_that_cannot_be_written_is_reported(archive, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "file/cache"))
    monkeypatch.setattr(shipped, "ARCHIVE", archive)
    with pytest.raises(RunError, match="Free some space"):
        shipped.shipped_folder()


@pytest.mark.parametrize("allocation", ["trim", "optimal"])
def test_rounding_is_small(allocation):
    exact = record("1.mlp.gate_proj", allocation)
    short = ship.rounded(exact)
    np.testing.assert_array_equal(short.counts, exact.counts)
    np.testing.assert_allclose(short.gini, exact.gini, rtol=2**-10)
    np.testing.assert_allclose(short.cosine, exact.cosine, rtol=2**-10)
    np.testing.assert_allclose(short.cosine_curve, exact.cosine_curve, atol=ship.CURVE_STEP)
    if exact.search is not None:
        np.testing.assert_allclose(
            short.search.row_sparsity, exact.search.row_sparsity, atol=ship.SEARCH_STEP
        )
        np.testing.assert_array_equal(short.search.quality, exact.search.quality)


def test_the_archive_of_the_product():
    with tarfile.open(shipped.ARCHIVE) as archive:
        members = archive.getmembers()
    assert all(member.isfile() and not member.name.startswith(("/", ".")) for member in members)
    assert shipped.ARCHIVE.stat().st_size < 15_000_000
    store = RunStore(lambda: Path("nowhere"))
    for entry in store.runs():
        check_run(entry.path)
    assert {entry.id for entry in store.runs()} == {
        f"demo-{allocation}-{percent}" for allocation in ("trim", "optimal") for percent in (70, 80)
    }
    assert all(outcome.done for entry in store.sweeps() for outcome in entry.sweep.outcomes())
