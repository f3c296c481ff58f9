"""Diagnoses in a sentence, also where pruning does no harm."""

import pytest

from trim.evaluation.diagnose_text import layers_finding, tokens_finding
from trim.runs.diagnosis_shapes import LayerCostDiagnosis, MeasuredText, TokenDiagnosis

TEXT: MeasuredText = {"corpus": "demo", "windows": 1, "length": 3, "tokens_sha256": "0", "dtype": "float32"}


@pytest.mark.parametrize(
    ("pruned", "finding"),
    [
        ([1.5, 2.0], "saves 0.25 nats per token; 50% of the tokens are predicted better than before, and none worse."),
        ([2.0, 2.5], "adds 0.25 nats per token; 0% of the tokens are predicted better than before. The tenth with the "
         "largest increases accounts for 100% of all increases; the largest is “c” after “…ab” (+0.5)."),
    ],
)  # fmt: skip
def test_tokens(pruned, finding):
    measured: TokenDiagnosis = {
        "text": TEXT,
        "pieces": [["a", "b", "c"]],
        "dense": [[2.0, 2.0]],
        "pruned": [pruned],
    }
    assert tokens_finding(measured) == f"Pruning {finding}"


@pytest.mark.parametrize(
    ("loss", "finding"),
    [
        (1.9, "No layer raises the loss alone."),
        (2.5, "Alone, 0.q costs most: it raises the loss by 0.5 nats"),
    ],
)
def test_layers(loss, finding):
    measured: LayerCostDiagnosis = {
        "text": TEXT,
        "dense_loss": 2.0,
        "layers": {"0.q": {"loss": loss, "standard_error": 0.1, "predicted": 0.1}},
    }
    assert layers_finding(measured).startswith(finding)
