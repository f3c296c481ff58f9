"""A layer and a model so small that a test may make its own."""

import torch

import trim
from app.services.layer.keys import ModelKey, SampleKey, StudyKey
from app.services.layer.study import Origin, Study
from app.services.layer.tensor_layer import TensorLayer
from trim.runs.run_record import Compute, ModelFacts, TextFacts

ORIGIN = Origin(ModelFacts("Tiny", "0" * 32), TextFacts(32, "0" * 64), Compute("cpu", "x86_64", "float32"))


def layer_sample(rows: int = 12, columns: int = 20, vectors: int = 24, seed: int = 0) -> trim.LayerSample:
    """Return a random layer whose rows and input features differ in size, so that scores differ."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    feature_size = normal(columns, 1).exp()
    inputs = normal(columns, vectors) * feature_size
    weight = normal(rows, columns) * normal(rows, 1).exp() * (normal(rows, columns).abs() + 0.1)
    return trim.LayerSample("0.mlp.gate_proj", weight, inputs, feature_size[:, 0] * vectors**0.5)


def study(score: str = "wanda", sample: trim.LayerSample | None = None) -> Study:
    """Return a study of that layer, or of the one that is made here."""
    sample = sample or layer_sample()
    key = StudyKey(ModelKey(), SampleKey(), sample.name, score)
    return Study(key, TensorLayer(sample, score), ORIGIN)
