"""Single layers of a run measured again: on what they received when they were pruned, and kept with the run."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import trim
from tests.trim import tiny
from trim.cli import main
from trim.methods.choices import ALLOCATIONS, SCORES
from trim.runs.diagnosis_files import agreement_from_json, read_layer_diagnoses, signal_from_json

NAMES = ["0.mlp.down_proj", "2.mlp.gate_proj"]
LAYER = NAMES[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> trim.Run:
    folder = tmp_path_factory.mktemp("again")
    model = tiny.folder(folder / "tiny")
    return trim.prune(
        model, folder / "run", target=0.6, layers=NAMES, windows=6, length=16, vectors_per_sequence=4
    )


@pytest.fixture(scope="module")
def model(run: trim.Run) -> trim.Model:
    return trim.load_model(run.request.model, device="cpu")


def test_layers_receive_what_they_received_when_they_were_pruned(run, model):
    before = {name: layer.weight.clone() for name, layer in model.layers.items()}
    samples = trim.run_samples(model, run, ["*"])
    assert list(samples) == NAMES
    assert all(torch.equal(layer.weight, before[name]) for name, layer in model.layers.items())
    for name, sample in samples.items():
        record = run.layer(name)
        score = trim.wanda_score(sample.weight, sample.input_norm)
        curves = trim.retention_curves(sample.weight, sample.inputs, score)
        found = trim.search(curves, run.request.search_settings(record.budget))
        np.testing.assert_array_equal(found.counts.numpy(), record.counts)
        np.testing.assert_array_equal(trim.keep_mask(curves.ranks, found.counts).numpy(), record.keep())
    # In float64 through the model itself, the block before pruned.
    module = tiny.module("llama").double()
    own, received = module.model.layers, []
    own[0].mlp.down_proj.weight.data *= torch.from_numpy(run.layer(NAMES[0]).keep())
    own[2].mlp.gate_proj.register_forward_pre_hook(lambda _, given: received.append(given[0].detach()))
    windows = trim.load_corpus("demo", model.tokenizer, windows=6, length=16, seed=0)
    module(windows)
    norm = (received[0].square().sum(dim=(0, 1)) / 6).sqrt()
    torch.testing.assert_close(samples[LAYER].input_norm.double(), norm, rtol=1e-5, atol=1e-6)


def test_signal_is_kept_with_the_run(run, model, capsys):
    assert (
        main(["diagnose", "signal", str(run.path), "--layers", LAYER, "--draws", "3", "--vectors", "9"]) == 0
    )
    assert f"{LAYER}: " in capsys.readouterr().out
    facts = read_layer_diagnoses(run, LAYER)["signal"]
    sample = trim.run_samples(model, run, [LAYER])[LAYER]
    settings = run.request.search_settings(run.layer(LAYER).budget)
    own = trim.row_signal(trim.resampled(sample, 3, vectors=9), settings)
    read = signal_from_json(facts, columns=32)
    assert (facts["drawn"], facts["vectors"], read.rates, read.titles) == (
        "vectors",
        9,
        own.rates,
        own.titles,
    )
    np.testing.assert_array_equal(read.sparsity, own.sparsity)
    np.testing.assert_array_equal(read.gini, own.gini)
    trim.diagnose_layers(run, "signal", [LAYER], draws=2, windows=True)
    read = signal_from_json(read_layer_diagnoses(run, LAYER)["signal"], columns=32)
    np.testing.assert_array_equal(read.sparsity[0], run.layer(LAYER).row_sparsity)  # the run's own windows
    assert np.ptp(read.gini, axis=0).max() > 0
    other = run.path.parent / "other.txt"
    other.write_text("Other words than those. " * 200)
    trim.diagnose_layers(run, "signal", [LAYER], texts=[str(other)])
    facts = read_layer_diagnoses(run, LAYER)["signal"]
    assert (facts["drawn"], facts["titles"]) == ("texts", ["demo", str(other)])
    read = signal_from_json(facts, columns=32)
    np.testing.assert_array_equal(read.sparsity[0], run.layer(LAYER).row_sparsity)
    with pytest.raises(trim.SettingsError, match="two draws or more, not 1"):
        trim.diagnose_layers(run, "signal", [LAYER], draws=1)


def test_agreement_and_targets_are_kept_with_the_run(run, model, capsys):
    for what in ("agreement", "targets"):
        assert main(["diagnose", what, str(run.path), "--layers", LAYER]) == 0
    printed = capsys.readouterr().out
    assert "Closest is trim by wanda: of the weights that either mask keeps, both keep 100.0%" in printed
    assert "trim spreads nine rows in ten most at a target of " in printed
    kept, sample = run.layer(LAYER).keep(), trim.run_samples(model, run, [LAYER])[LAYER]
    found = read_layer_diagnoses(run, LAYER)["agreement"]
    pairs = [(each["score"], each["allocation"]) for each in found]
    assert pairs == [(score, allocation) for score in SCORES for allocation in ALLOCATIONS]
    masks = trim.method_masks(sample, run.layer(LAYER).sparsity, pairs, settings=trim.SearchSettings(0.6))
    for pair, each in zip(pairs, map(agreement_from_json, found), strict=True):
        mask = masks[pair].numpy()
        both, either = (kept & mask), (kept | mask)
        assert each.whole == both.sum() / either.sum()
        np.testing.assert_allclose(each.by_row, both.sum(1) / either.sum(1), atol=1e-6)
        np.testing.assert_allclose(each.by_column, both.sum(0) / np.maximum(either.sum(0), 1), atol=1e-6)
    curves = trim.retention_curves(
        sample.weight, sample.inputs, trim.wanda_score(sample.weight, sample.input_norm)
    )
    by_trim, optimal = read_layer_diagnoses(run, LAYER)["targets"]
    assert (by_trim["method"], optimal["method"], by_trim["targets"][-1]) == ("trim", "optimal", 0.9)
    place = by_trim["targets"].index(0.5)
    searched = trim.search(curves, trim.SearchSettings(0.5))
    np.testing.assert_array_equal(by_trim["counts"][place], searched.counts.numpy())
    assert sum(optimal["counts"][place]) == sum(by_trim["counts"][place])


def test_what_is_damaged_or_cannot_be_measured_is_reported(run, tmp_path):
    file = run.path / "diagnoses" / f"{NAMES[0]}.json"
    file.parent.mkdir(exist_ok=True)
    targets = [{"method": "trim", "targets": [0.5], "counts": [[1, 2]]}]
    file.write_text(json.dumps({"targets": targets}))
    with pytest.raises(trim.RunError, match=r"damaged \(its rows are 2, and it needs 32\)"):
        read_layer_diagnoses(run, NAMES[0])
    file.unlink()
    with pytest.raises(trim.SettingsError, match="is one of signal, agreement, targets, not 'heads'"):
        trim.diagnose_layers(run, "heads", ["*"])
    for wrong, message in (
        ({"vectors": 0}, "between 1 and 100,000 input vectors, not 0"),
        ({"draws": 1}, "two draws or more, not 1"),
        ({"draws": 10**6}, r"of the \d+ rows of .* at most [\d,]+ draws can be stored"),
        ({"texts": [run.request.corpus]}, "the run's own text"),
    ):
        with pytest.raises(trim.SettingsError, match=message):
            trim.diagnose_layers(run, "signal", NAMES[:1], **wrong)
    assert not file.exists()
    given = trim.prune(
        run.request.model, tmp_path / "given", target=0.5, layers=NAMES[:1], tokens=torch.full((2, 9), 7)
    )
    with pytest.raises(trim.CorpusError, match="pruned with tokens of its own"):
        trim.diagnose_layers(given, "targets", ["*"])
    changed = dataclasses.replace(run.record.text, sha256="other")
    object.__setattr__(run.record, "text", changed)
    with pytest.raises(trim.CorpusError, match="has changed since"):
        trim.diagnose_layers(run, "targets", ["*"])
