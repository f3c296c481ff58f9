"""Run folders that were damaged or edited: each fault is found when it is read, and named."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import trim
from trim.runs.folder import open_run
from trim.runs.json_files import damaged

PERPLEXITY = {"corpus": "demo", "tokens_sha256": "0", "windows": 2, "length": 16, "perplexity": 20.0}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("notes", '{"name": NaN}', "NaN is not a number"),
        ("notes", '{"name": "%s"}' % ("x" * 121), "it.name must be between 0 and 120 characters"),
        ("notes", '{"note": 1%s}' % ("0" * 400), "401 digits"),
        ("notes", '{"note": 1e999}', "too large"),
        ("notes", f'{{"other": {"[" * 30}{"]" * 30}}}', "nested too deeply"),
        ("notes", '{"other": "%s"}' % ("x" * 100_001), "100,001 characters"),
        ("budgets", '{"layers": {"2.mlp.up_proj": 7}}', "must be between 0 and 1, not 7"),
        ("budgets", '{"layers": {"2.<b>": 0.5}}', "cannot be '2.<b>'"),
        ("budgets", '{"layers": {}}', "lacks 2.mlp.up_proj"),
        ("metrics", '{"sparsity": {"requested": 0.5, "realised": 7}}', "must be between 0 and 1"),
        ("metrics", '{"sparsity": "all"}', "must be an object"),
        ("metrics", '{"seconds": "long"}', "it.seconds must be float"),
        ("metrics", json.dumps({"perplexities": [PERPLEXITY | {"windows": "<b>"}]}), "must be int"),
        ("metrics", json.dumps({"perplexities": [PERPLEXITY | {"perplexity": 0}]}), "must be"),
        ("metrics", '{"perplexities": [{"perplexity": 20}]}', "corpus is missing"),
        ("metrics", '{"continuations": [{"prompt": 1, "texts": {}}]}', "prompt must be str"),
    ],
)
def test_files_that_say_what_cannot_be(folder, file, text, message):
    (folder / f"{file}.json").write_text(text)
    with pytest.raises(trim.RunError, match=message):
        getattr(open_run(folder), file)


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("notes.json", "correct it or remove it"),
        ("diagnoses.json", "measure again"),
        ("diagnoses/2.q.json", "measure again"),
        ("metrics.json", "prune again"),
    ],
)
def test_only_what_cannot_be_made_alone_is_pruned_again(file, remedy):
    assert remedy in str(damaged(Path(file), "why"))


@pytest.mark.parametrize(
    "block",
    [
        {"file": "../../x"},
        {"layers": ["2.mlp.up_proj", "2.mlp.up_proj"]},
        {"layers": ["3.mlp.up_proj"]},
        {"layers": ["2.<b>"]},
        {"bytes": -1},
    ],
)
def test_blocks_that_cannot_be(folder, block):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["blocks"]["2"] |= block
    path.write_text(json.dumps(manifest))
    with pytest.raises(trim.RunError, match=r"manifest\.json is damaged"):
        open_run(folder)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: edit_config(run, schema=99), "schema 99"),
        (lambda run: edit_config(run, settings={"target": 0.9}), "was edited"),
        (lambda run: edit_config(run, kind="sweep"), "it.kind must be 'model' or 'layer', not 'sweep'"),
        (
            lambda run: edit_config(run, created="9999-12-31T23:59:59-23:59"),
            "it.created must be a time",
        ),
        (lambda run: (run / "config.json").write_text("[1]"), "must be an object"),
        (lambda run: (run / "config.json").write_text("[" * 100_000), "nested too deeply"),
        (lambda run: (run / "config.json").unlink(), "is not a run"),
        (
            lambda run: (run / "manifest.json").write_text('{"blocks": {"0": {}}, "complete": true}'),
            "manifest.json",
        ),
        (lambda run: (run / "manifest.json").unlink(), "manifest.json is missing"),
    ],
)
def test_damaged_folders_are_named(folder, damage, message):
    damage(folder)
    with pytest.raises(trim.RunError, match=message):
        open_run(folder)


def test_truncated_and_altered_block_files(folder):
    path = folder / "blocks" / "002.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(trim.RunError, match=r"002\.safetensors is damaged: it has"):
        open_run(folder).layer("2.mlp.up_proj")
    for damage in (lambda: path.write_bytes(b"\xff" * len(content)), path.unlink):
        damage()
        with pytest.raises(trim.RunError, match=r"002\.safetensors is damaged"):
            open_run(folder).layer("2.mlp.up_proj")


def rewrite(folder, arrays=lambda a: None, numbers=lambda n: None):
    """Change what the run's only block holds, and enter its new size into the manifest."""
    path = folder / "blocks" / "002.safetensors"
    with safe_open(path, "np") as file:
        facts = json.loads(file.metadata()["trim"])
    found = load_file(path)
    arrays(found)
    numbers(facts["layers"]["2.mlp.up_proj"])
    save_file(found, path, {"trim": json.dumps(facts)})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["blocks"]["2"]["bytes"] = path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))


L = "2.mlp.up_proj/"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (lambda a: a.update({L + "counts": a[L + "counts"][:-1]}), "counts is int32"),
        (lambda a: a.update({L + "counts": a[L + "counts"].astype(np.int64)}), "counts is int64"),
        (lambda a: a.update({L + "counts": a[L + "counts"] + 100}), "counts outside"),
        (lambda a: a[L + "counts"].fill(0), "the mask contradicts"),
        (lambda a: a[L + "cosine"].fill(np.nan), "cosine holds NaN"),
        (lambda a: a.update({L + "cosine": a[L + "cosine"][:-1]}), "cosine is"),
        (lambda a: a[L + "gini"].fill(np.inf), "gini holds NaN or infinity"),
        (lambda a: a[L + "gini"].fill(3), "gini outside"),
        (lambda a: a[L + "cosine_curve"].fill(2), "cosine_curve outside"),
        (lambda a: a[L + "weight_norm"].fill(-1), "weight_norm outside"),
        (lambda a: a.pop(L + "cosine"), "lacks a value or has a wrong one"),
        (lambda a: a.update({L + "extra": np.zeros(3)}), "unknown array"),
        (lambda a: a.update({"2.other/counts": np.zeros(3)}), "are not those of the manifest"),
        (lambda a: a.update({L + "search_quality": a[L + "search_quality"][:, :-1]}), "search_quality"),
    ],
)
def test_arrays_that_break_their_promise(folder, arrays, message):
    rewrite(folder, arrays)
    with pytest.raises(trim.RunError, match=message):
        open_run(folder).layer("2.mlp.up_proj")


@pytest.mark.parametrize(
    "numbers",
    [
        {"columns": 0},
        {"columns": 41},
        {"columns": "40"},
        {"rows": 10**12},
        {"allocation": "<script>"},
        {"score": 5},
        {"budget": 7},
        {"vectors": None},
        {"realised_quality": "nan"},
        {"quality_measure": []},
        {"search": {}},
    ],
)
def test_numbers_that_cannot_be(folder, numbers):
    rewrite(folder, numbers=lambda n: n.update(numbers))
    with pytest.raises(trim.RunError, match=r"002\.safetensors is damaged"):
        open_run(folder).layer("2.mlp.up_proj")
