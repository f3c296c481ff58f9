"""A run folder with one layer, small enough to write for every test."""

import pytest

import trim
from tests.app.small import layer_sample
from trim.runs.facts import versions
from trim.runs.recording import record_of_search
from trim.runs.run_record import Compute, ModelFacts, RunRecord, TextFacts
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter

SETTINGS = RunRecord(
    PruneSettings("demo", 0.5),
    ModelFacts("demo", "0"),
    TextFacts(32, "0"),
    Compute("cpu", "a processor", "float32", 2, 2),
    versions(),
).to_json()


def make_layer(rows=12, columns=40, vectors=9, seed=0):
    sample = layer_sample(rows, columns, vectors, seed)
    sample.weight[3] = 0
    return sample.scored("wanda")


def make_record(name="2.mlp.up_proj", target=0.5, with_mask=True, **options):
    layer = make_layer()
    result = trim.search(layer.curves, trim.SearchSettings(target, **options))
    record = record_of_search(name, layer, result, score_name="wanda", with_mask=with_mask)
    return record, layer.curves, result


@pytest.fixture
def folder(tmp_path):
    record, _, _ = make_record()
    with RunWriter.create(tmp_path / "run", SETTINGS, kind="layer", name="a <b>name</b>") as writer:
        writer.log({"event": "begun"})
        writer.write_block(2, [record])
        writer.finish({"sparsity": {"requested": 0.5, "realised": record.sparsity}})
    return tmp_path / "run"
