"""The sentences below the further views say what the numbers say."""

import numpy as np

from app.ui.layer.channels import channels_finding
from app.ui.layer.experts import experts_finding
from app.ui.layer.heads import heads_finding
from app.ui.layer.inputs import norms_finding, shared_finding, sorted_finding
from app.ui.layer.targets import targets_finding
from app.ui.model.sensitivity import sensitivity_finding, shares_finding
from diagnostics.channels import channel_pair
from diagnostics.figures.distributions import GINI, ROW_SPARSITY
from diagnostics.heads import by_head
from diagnostics.inputs import feature_statistics, outlier_features
from diagnostics.numeric import level
from diagnostics.sensitivity import LayerRows, sensitivity_statistics
from diagnostics.targets import target_paths

MASK = np.array([[True, False, True, True], [True, False, False, True]])


def test_heads():
    values = np.array([0.5, 0.6, 0.96, 0.98])
    names = ["key head 0 (of query heads 0 to 2)", "key head 1 (of query heads 3 to 5)"]
    finding = heads_finding([by_head("TRIM", values, names)], ROW_SPARSITY, "row")
    assert finding.startswith(
        "Highest in key head 1 (mean 97.00%), lowest in key head 0 (55.00%); 97% of the diff"
    )
    assert finding.endswith("chance would leave 33.3%. Pruned nearly whole, to 95% or more: key head 1.")
    two = [by_head(label, values - 0.3, names) for label in ("TRIM", "Optimal")]
    assert heads_finding(two, ROW_SPARSITY, "row").count("No head loses 95% of its weights or more.") == 2
    assert heads_finding([by_head("wanda", np.ones(4), names)], GINI, "column") == "All columns are equal."


def test_experts():
    found = by_head("TRIM", np.array([0.5, 0.6, 0.9, 1, 0.7, 0.7]), ["0", "1", "2"])
    finding = experts_finding(found, ROW_SPARSITY, 2)
    assert finding.startswith(
        "Expert 2: mean 70.00%, place 2 of 3. Highest in expert 1 (95.00%), lowest in 0 (55.00%); 94% of the diff"
    )
    assert finding.endswith("chance would leave 40.0%.")
    level_means = by_head("TRIM", np.array([0.5, 0.9, 0.6, 0.8]), ["0", "1"])
    assert experts_finding(level_means, ROW_SPARSITY, 1).startswith(
        "All 2 experts have the same mean, 70.00%; 0%"
    )
    assert (
        experts_finding(by_head("TRIM", np.ones(4), ["0", "1"]), GINI, 0)
        == "The Gini is the same in all rows of all experts."
    )


def test_targets():
    paths = target_paths("trim", "TRIM", [0.3, 0.5], np.array([[2, 3, 4], [6, 2, 7]]), 10)
    finding = targets_finding(paths)
    assert finding.startswith("Rows differ most at a layer target of 50%")
    assert finding.endswith("33.3% of the rows lose less at some higher target.")
    alike = target_paths("trim", "TRIM", [0.3], np.full((1, 3), 3), 10)
    assert targets_finding(alike) == "At every target nine rows in ten lose the same share."


def test_input_features():
    norm = np.array([50.0, 1, 1, 1])
    found = [feature_statistics("trim", "TRIM", MASK, norm)]
    finding = norms_finding(norm, outlier_features(norm), found)
    assert finding.startswith(
        "1 of 4 input features is more than 5 times as large as the median one: 0 (50 times)."
    )
    assert "TRIM keeps 100.0% of their weights, 40.00% of all that it keeps; size and kept share" in finding
    even = norms_finding(np.ones(4), np.array([], int), found)
    assert even.startswith("No input feature is more than 5 times as large as the median one")
    assert "hold 40.00% of the kept weights" in sorted_finding(found)
    assert sorted_finding(found).endswith("1 of 4 columns are empty.")
    others = {"0.k_proj": np.array([1.0, 0, 0.4, 0.9]), "0.v_proj": np.ones(4)}
    assert shared_finding(found[0], others).endswith("by Spearman with 0.k_proj +0.95, 0.v_proj not defined.")
    assert shared_finding(found[0], {}) == "No other layer that reads the same input is here."


def test_channels():
    first = np.arange(20.0) / 20
    pair = channel_pair(first, first[::-1])
    assert channels_finding("TRIM", {("gate row", "up row"): pair}) == (
        "TRIM: gate rows and up rows agree by ρ −1, shared 0% (at random 10%)."
    )
    rounded = level(np.array([0.6, 0.61, 0.6]), 100)  # 60 or 61 of 100 weights
    assert channels_finding("Uniform", {("gate row", "up row"): channel_pair(rounded, rounded)}) == (
        "Uniform: gate rows and up rows do not both vary (at random 10%)."
    )
    assert (level(np.array([0.6, 0.62]), 100) == [0.6, 0.62]).all()


def test_sensitivity():
    gini = np.linspace(0.2, 0.8, 30)
    rows = LayerRows("0.q_proj", gini, np.exp(gini), gini)
    finding = sensitivity_finding(sensitivity_statistics([rows]))
    assert finding.startswith("Over 30 rows Gini and sensitivity agree by Spearman +1; within a layer by +1 ")
    assert finding.endswith(
        "Gini alone explains 100% of the order of a layer's row sparsities in the median, with "
        "sensitivity 100%."
    )
    flat = sensitivity_statistics([LayerRows("0.q_proj", gini, np.exp(gini), np.full(30, 0.7))])
    assert shares_finding("TRIM", flat) == "TRIM prunes the same share of all rows of a layer."
