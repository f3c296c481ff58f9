"""Compiled functions: the same for any number of threads and callers, without torch, with or without a cache."""

import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import trim
from tests.processes import python
from trim.compiled import compiler
from trim.compiled.compiler import compiled
from trim.compiled.gini import gini_of_rows
from trim.compiled.hull import hull_edges
from trim.compiled.order import kept_in_order, order_rows
from trim.compiled.search import Tables
from trim.compiled.squares import squares_of_columns
from trim.compiled.sweep import kept_output, sweep


def everything(seed: int = 0, rows: int = 101, columns: int = 67, vectors: int = 150) -> list[np.ndarray]:
    """Compute one layer by every compiled function: many blocks of rows, two tiles of vectors."""
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((rows, columns)).astype(np.float32)
    inputs = generator.standard_normal((columns, vectors)).astype(np.float32)
    score = np.abs(weight) * np.linalg.norm(inputs, axis=1).astype(np.float32)
    order, sound_scores = order_rows(score)
    curves, output, sound_curves = sweep(weight, inputs, order)
    assert sound_scores
    assert sound_curves
    norm, peak = np.sqrt(curves[:, 0, 1]), np.square(output.astype(np.float64)).max(axis=1)
    tables = Tables(curves, norm, peak, vectors)
    total, limit = round(0.7 * rows * columns), columns - 1
    found = tables.search(
        (0.04, 0.08, -0.01), 2, 0.7, 0.95, 10, total, limit, "cosim", "cosim_flat", complete=True
    )
    counts = generator.integers(0, columns + 1, rows)
    ranks = np.argsort(order, axis=1).astype(np.int32)
    return [
        order, curves, output, *found,
        tables.judge(counts[None], "snr"), kept_output(weight, inputs, ranks, counts),
        *hull_edges(curves[..., 2], columns - 1), gini_of_rows(score, order), kept_in_order(order, counts),
    ]  # fmt: skip


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("threads", [2, 3, 8, 64])
def test_the_number_of_threads_changes_no_bit(monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = everything()
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    assert_equal(everything(), expected)


def test_eight_callers_at_once(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    expected = [everything(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, alone in zip(pool.map(everything, range(8)), expected, strict=True):
                assert_equal(found, alone)


@pytest.mark.parametrize("number", [1, 4, 11])
def test_squares_of_columns(number):
    vectors = np.random.default_rng(2).standard_normal((number, 7)).astype(np.float32)
    vectors[0, :2] = np.nan, np.inf
    found = squares_of_columns(vectors)
    assert np.isnan(found[0])
    assert found[1] == np.inf
    np.testing.assert_allclose(found[2:], np.square(vectors[:, 2:]).sum(axis=0, dtype=np.float64), rtol=1e-15)


def test_what_is_kept_in_order():
    order = np.array([[2, 0, 1], [1, 2, 0], [0, 1, 2]], np.int32)
    keep = [[True, True, False], [True, True, True], [False, False, False]]
    assert kept_in_order(order, np.array([1, 0, 3])).tolist() == keep


def test_a_product_of_what_is_kept():
    generator = np.random.default_rng(1)
    weight = generator.standard_normal((6, 9)).astype(np.float32)
    inputs = generator.standard_normal((9, 5)).astype(np.float32)
    ranks = np.argsort(generator.random((6, 9)), axis=1).astype(np.int32)
    counts = np.array([0, 9, 3, 4, 8, 1])
    kept = np.where(ranks >= counts[:, None], weight, 0).astype(np.float64) @ inputs
    np.testing.assert_allclose(kept_output(weight, inputs, ranks, counts), kept, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_no_compiled_function_needs_torch():
    printed = python(
        "import sys, numpy as np\n"
        "from trim.compiled.__main__ import compile_everything\n"
        "compile_everything()\n"
        "from trim.compiled.order import order_rows\n"
        "print(order_rows(np.float32([[2, 1, 2, 0]]))[0].tolist(), 'torch' in sys.modules)"
    )
    assert printed == "[[3, 1, 0, 2]] False\n"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_computes_too():
    printed = python(
        "import os, numpy as np\n"
        "from trim.compiled.order import order_rows\n"
        "score = np.random.default_rng(0).random((100, 9), dtype=np.float32)\n"
        "before = order_rows(score)[0]\n"
        "if child := os.fork():\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "else:\n"
        "    os._exit(7 if (order_rows(score)[0] == before).all() else 1)\n",
        OMP_NUM_THREADS="3",
    )
    assert printed == "7\n"


def twice(number):
    return 2 * number


def thrice(number):
    return 3 * number


@pytest.fixture
def compiling(tmp_path, monkeypatch):
    """Compile two functions with a cache in a folder of this test; their results and the warnings."""
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))  # that of `make setup` is out of sight

    def results() -> tuple[list[int], list[str]]:
        monkeypatch.setattr(compiler, "_warned", False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = [compiled("int64(int64)")(function)(7) for function in (twice, thrice)]
        assert all(each.category is trim.CacheWarning for each in caught)
        return found, [str(each.message) for each in caught]

    return results


def test_a_cache_that_cannot_be_written_is_reported_once(compiling, tmp_path):
    (tmp_path / "cache").touch()
    found, (message,) = compiling()
    assert found == [14, 21]
    assert str(tmp_path / "cache") in message
    assert "set TRIM_CACHE to a folder that can be written" in message


def test_a_damaged_cache_is_reported_and_compiled_anew(compiling, tmp_path):
    assert compiling() == ([14, 21], [])
    files = list((tmp_path / "cache" / "compiled").rglob("*.nb?"))
    assert files
    for path in files:
        path.write_bytes(b"damaged")
    found, (_,) = compiling()
    assert found == [14, 21]


def test_what_setup_compiles_stays_in_the_environment(compiling, tmp_path):
    (tmp_path / "cache").touch()
    folder = compiler.environment_folder()
    assert folder.is_relative_to(tmp_path / "environment")
    folder.mkdir(parents=True)
    assert compiling() == ([14, 21], []), "the cache cannot be written, and need not be"
    assert list(folder.rglob("*.nbi"))
