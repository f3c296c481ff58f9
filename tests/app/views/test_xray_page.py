"""The X-ray page through AppTest: a checkpoint that somebody pruned, its parent, and what cannot be read."""

import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from tests.app.page import run_page, visit
from tests.trim import tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A dense model and its copy without the smaller half of each row."""
    dense = tiny.folder(tmp_path_factory.mktemp("dense"))
    pruned = tiny.folder(tmp_path_factory.mktemp("pruned"))
    weights = load_file(pruned / "model.safetensors")
    for name, weight in weights.items():
        if ".layers." in name and weight.dim() == 2:
            values = weight.numpy().copy()
            half = np.abs(values).argsort(axis=1)[:, : values.shape[1] // 2]
            np.put_along_axis(values, half, 0, axis=1)
            weights[name] = torch.from_numpy(values)
    save_file(weights, pruned / "model.safetensors", {"format": "pt"})
    return pruned, dense


def asked(checkpoint, parent="") -> AppTest:
    test = visit("xray", xray_parent=str(parent))  # the address keeps what was asked
    test.text_input(key="xray_checkpoint").set_value(str(checkpoint))
    test.button[0].click()
    return arrived(test)


def arrived(test: AppTest) -> AppTest:
    run_page(test)
    while test.get("progress"):
        time.sleep(0.05)
        run_page(test)
    return test


def test_what_was_done_to_a_checkpoint_and_whose_masks_they_are(folders):
    test = asked(*folders)
    texts = [each.value.replace("\\", "") for each in test.markdown]
    assert any(
        "- 50.0% of its 23,040 weights in 21 layers are zero; every layer has 50.0%." in text
        for text in texts
    )
    assert any("Every kept weight is as it was" in text for text in texts)
    assert len(test.get("plotly_chart")) == 2
    assert list(test.dataframe[0].value["Sparsity"]) == [0.5] * 7
    next(button for button in test.button if button.label == "Compare its masks").click()
    arrived(test)
    table = test.dataframe[1].value
    assert len(table) == 21
    assert table["Wanda, uniform"].between(0.5, 1).all()
    next(button for button in test.button if button.label == "Compare their losses").click()
    arrived(test)
    tokens = test.dataframe[2].value
    assert len(tokens) == 4 * 127
    assert (tokens["Added"] == tokens["Pruned"] - tokens["Dense"]).all()
    assert tokens["Added"].is_monotonic_decreasing


def test_what_cannot_be_read_is_explained(tmp_path):
    test = asked(tmp_path / "nothing")
    assert "there is no model" in test.error[0].value
    assert [button.label for button in test.button][-1] == "Try again"
