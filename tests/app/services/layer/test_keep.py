"""A layer that is kept from the Layer page is a run like any other of its model."""

import shutil

import torch

import trim
from app.services.layer.keep import keep
from app.services.layer.keys import ModelKey, SampleKey, StudyKey
from app.services.layer.study import Origin, Study
from app.services.layer.tensor_layer import TensorLayer
from app.services.results.compared import read_slot
from app.services.results.picks import Pick
from app.services.runs.store import RunStore
from tests.trim import rough

LAYER = "0.mlp.gate_proj"


def test_a_kept_layer_and_a_whole_run_are_of_one_model(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "runs"))
    folder = rough.make_model("llama", tmp_path / "model")
    tokens = torch.randint(0, rough.VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(0))
    model = trim.load_model(folder, device="cpu")
    sample = trim.capture(model, tokens, [LAYER])[LAYER]
    key = StudyKey(ModelKey(str(folder)), SampleKey(), LAYER, "wanda")
    study = Study(key, TensorLayer(sample, "wanda"), Origin.of(model, tokens))
    kept = trim.open_run(keep(study, study.outcome(trim.SearchSettings(0.5)), "trim", "Kept"))
    whole = trim.prune(folder, tmp_path / "runs" / "whole", tokens=tokens, target=0.5, device="cpu")
    assert kept.model == whole.model
    assert kept.text.sha256 == whole.text.sha256
    store = RunStore()
    compared = [
        read_slot(store, letter, Pick(run.id, LAYER)) for letter, run in zip("AB", (kept, whole), strict=True)
    ]
    assert compared[0].rows_key == compared[1].rows_key
    elsewhere = shutil.copytree(folder, tmp_path / "copy" / "model")
    assert trim.load_model(elsewhere, device="cpu").fingerprint == kept.model.weights
