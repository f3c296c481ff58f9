"""What an exported folder holds besides the pruned weights, and in which layout."""

import re
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

import trim
from tests.trim import rough
from tests.trim.models.test_layouts import shards_in_folders

INDEX = "model.safetensors.index.json"


pruned = partial(rough.pruned, tokens=rough.random_tokens(2, 8), allocation="uniform")


def test_an_index_with_folders_keeps_its_layout(own_llama, tmp_path):
    shards_in_folders(own_llama)
    (own_llama / "model.safetensors").unlink()
    run = pruned(own_llama, tmp_path / "run")
    out = trim.export(run, tmp_path / "out")
    shards = [path.relative_to(own_llama) for path in own_llama.glob("part*/*")]
    assert {path.relative_to(out) for path in out.glob("part*/*")} == set(shards)
    assert len(shards) > 1
    result = transformers.AutoModelForCausalLM.from_pretrained(out)
    zeros = sum(int((result.get_submodule(f"model.layers.{name}").weight == 0).sum()) for name in run.layers)
    assert zeros == run.metrics["weights"]["pruned"]


def test_an_index_that_nobody_reads_is_left_out(own_llama, tmp_path):
    transformers.AutoModelForCausalLM.from_pretrained(own_llama).save_pretrained(
        tmp_path / "parts", max_shard_size="20KB"
    )
    (own_llama / INDEX).write_bytes((tmp_path / "parts" / INDEX).read_bytes())
    out = trim.export(pruned(own_llama, tmp_path / "run"), tmp_path / "out")
    assert sorted(path.name for path in out.glob("*safetensors*")) == ["model.safetensors"]


def test_templates_licences_and_policies_go_along(own_llama, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(own_llama)
    tokenizer.chat_template = {"default": "A{{ messages }}", "tool_use": "B{{ messages }}"}
    tokenizer.save_pretrained(own_llama)
    legal = ["LICENSE.txt", "licence.md", "NOTICE", "USE_POLICY.md"]
    for name in [*legal, "notes.txt"]:
        (own_llama / name).write_text(name)
    out = trim.export(pruned(own_llama, tmp_path / "run"), tmp_path / "out")
    assert transformers.AutoTokenizer.from_pretrained(out).chat_template == tokenizer.chat_template
    assert [(out / name).read_text() for name in legal] == legal
    assert not (out / "notes.txt").exists()


def test_the_card_of_a_model_that_was_sparse_before(own_llama, tmp_path):
    half = trim.export(pruned(own_llama, tmp_path / "first"), tmp_path / "half")
    run = pruned(half, tmp_path / "second", target=0.3)
    out = trim.export(run, tmp_path / "out")

    def zeros(folder: Path) -> int:
        tensors = load_file(folder / "model.safetensors")
        return sum(int((tensors[f"model.layers.{name}.weight"] == 0).sum()) for name in run.layers)

    card = (out / "README.md").read_text()
    weights = run.metrics["weights"]
    after, before, chosen = (
        int(re.search(words, card)[1].replace(",", ""))
        for words in (
            r"([\d,]+) are zero",
            r"before pruning, ([\d,]+) were",
            r"The run chose ([\d,]+) of them",
        )
    )
    assert (after, before, chosen) == (zeros(out), zeros(half), weights["pruned"])
    assert after == before > chosen
    assert f"({after / weights['of']:.6f})" in card


def test_weights_keep_their_type(own_llama, tmp_path):
    transformers.AutoModelForCausalLM.from_pretrained(own_llama).to(torch.bfloat16).save_pretrained(own_llama)
    run = pruned(own_llama, tmp_path / "run")
    assert run.compute.dtype == "float32"
    out = trim.export(run, tmp_path / "out")
    assert (out / "tokenizer.json").exists()
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert "type: bfloat16, as in the model that was pruned" in (out / "README.md").read_text()
