"""All readers of a folder take its weights from the files that `transformers` takes them from, or refuse it alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import trim
from benchmarks.mutations import read_header_of, write_header
from tests.trim import rough, tiny
from trim.models.streamed import StreamedModel

INDEX = "model.safetensors.index.json"
LAYER = "1.mlp.up_proj"


def sharded(path: Path, seed: int = 0) -> None:
    tiny.module("llama", seed).save_pretrained(path, max_shard_size="20kB")


def complete(path: Path, seed: int = 0) -> None:
    tiny.module("llama", seed).save_pretrained(path)


def shards_then_complete(path: Path) -> None:
    sharded(path, seed=1)
    complete(path)
    for shard in path.glob("model-*.safetensors"):
        shard.unlink(missing_ok=True)


def stale_index(path: Path) -> None:
    sharded(path, seed=1)
    index = (path / INDEX).read_text()
    shards_then_complete(path)
    (path / INDEX).write_text(index)


def complete_then_shards(path: Path) -> None:
    complete(path)
    content = (path / "model.safetensors").read_bytes()
    sharded(path, seed=1)
    (path / "model.safetensors").write_bytes(content)


def shards_in_folders(path: Path) -> None:
    sharded(path)
    rough.edit_json(
        path / INDEX, weight_map=nested(path, json.loads((path / INDEX).read_text())["weight_map"])
    )


def nested(path: Path, names: dict[str, str]) -> dict[str, str]:
    """Move every shard into a folder of its own, all under one name."""
    for number, name in enumerate(sorted(set(names.values()))):
        (path / f"part{number}").mkdir()
        (path / name).rename(path / f"part{number}" / "weights.safetensors")
        names = {
            key: f"part{number}/weights.safetensors" if value == name else value
            for key, value in names.items()
        }
    return names


def named_by_the_configuration(path: Path) -> None:
    complete(path)
    (path / "model.safetensors").rename(path / "best.safetensors")
    complete(path, seed=1)
    rough.edit_json(path / "config.json", transformers_weights="best.safetensors")


LAYOUTS = [
    complete,
    sharded,
    shards_then_complete,
    stale_index,
    complete_then_shards,
    shards_in_folders,
    named_by_the_configuration,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_readers_take_the_same_weights(layout, tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path)
    layout(tmp_path)
    expected = tiny.module("llama").model.layers[1].mlp.up_proj.weight
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    loaded, streamed = (
        trim.load_model(tmp_path, device="cpu"),
        StreamedModel(tmp_path, device=torch.device("cpu")),
    )
    assert torch.equal(theirs.model.layers[1].mlp.up_proj.weight, expected)
    assert torch.equal(loaded.layers[LAYER].weight, expected)
    assert torch.equal(streamed.weight(LAYER), expected)
    assert trim.describe_model(tmp_path).parameters == sum(each.numel() for each in theirs.parameters())
    assert loaded.fingerprint == streamed.files.fingerprint()


def test_files_that_nobody_reads_do_not_change_the_identity(tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path)
    complete(tmp_path)
    before = trim.load_model(tmp_path, device="cpu").fingerprint
    complete_then_shards(tmp_path)
    assert trim.load_model(tmp_path, device="cpu").fingerprint == before


def shard_outside(path: Path) -> None:
    sharded(path)
    names = json.loads((path / INDEX).read_text())["weight_map"]
    rough.edit_json(path / INDEX, weight_map=dict.fromkeys(names, "../x.safetensors"))


def index_without(*names: str) -> Callable[[Path], None]:
    """A sharded folder whose index lacks some of its members."""

    def layout(path: Path) -> None:
        sharded(path)
        index = json.loads((path / INDEX).read_text())
        (path / INDEX).write_text(json.dumps({name: index[name] for name in index.keys() - names}))

    return layout


def lost_shard(path: Path) -> None:
    sharded(path)
    sorted(path.glob("model-*"))[0].unlink()


def rewritten(change: Callable[[dict, bytes], tuple[dict, bytes]]) -> Callable[[Path], None]:
    """A folder in whose one safetensors file the header or the content has changed."""

    def layout(path: Path) -> None:
        complete(path)
        file = path / "model.safetensors"
        write_header(file, *change(*read_header_of(file)))

    return layout


def overlapping(header: dict, data: bytes) -> tuple[dict, bytes]:
    layers = [f"model.layers.{index}.mlp.up_proj.weight" for index in (0, 1)]
    header[layers[1]]["data_offsets"] = header[layers[0]]["data_offsets"]
    return header, data


def one_tensor(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """A complete folder in which the head has changed."""

    def layout(path: Path) -> None:
        complete(path)
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    return layout


HEAD = "lm_head.weight"


def no_header(path: Path) -> None:
    complete(path)
    (path / "model.safetensors").write_bytes(b"\x08")


def pickled(path: Path) -> None:
    complete(path)
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (index_without("metadata"), "index.json is damaged"),
        (shard_outside, "outside the model's folder"),
        (lost_shard, "lacks 1 of the .*model-00001-of"),
        (index_without("metadata", "weight_map"), "index.json is damaged"),
        (rewritten(overlapping), "overlaps another tensor|follows a gap"),
        (rewritten(lambda header, data: (header, data + b"\0" * 8)), "was not downloaded to its end"),
        (rewritten(lambda header, data: (header, data[:-8])), "was not downloaded to its end"),
        (one_tensor(lambda held: held.pop(HEAD)), f"lack 1 of the model's weights, such as {HEAD}"),
        (one_tensor(lambda held: held.update({HEAD: held[HEAD][:-1].clone()})), "do not fit its config.json"),
        (one_tensor(lambda held: held.update({HEAD: held[HEAD].to(torch.float8_e4m3fn)})), "F8_E4M3"),
        (one_tensor(dict.clear), "without a single tensor"),
        (
            one_tensor(lambda held: held.update({name: each.to(torch.int8) for name, each in held.items()})),
            r"quantized \(type I8\)",
        ),
        (no_header, r"model\.safetensors is damaged"),
        (pickled, r"pickle only \(pytorch_model\.bin\).*save_pretrained"),
    ],
)
def test_all_readers_refuse_the_same(layout, message, tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path)
    layout(tmp_path)
    with pytest.raises(trim.ModelError, match=message):
        trim.load_model(tmp_path, device="cpu")
    with pytest.raises(trim.ModelError, match=message):
        StreamedModel(tmp_path, device=torch.device("cpu"))


@pytest.mark.parametrize("held", [["model.embed_tokens.weight"], ["lm_head.weight"], "both"])
def test_a_tied_table_may_be_stored_under_either_name(held, tmp_path):
    tiny.folder(tmp_path, "qwen2")
    tensors = load_file(tmp_path / "model.safetensors")
    table = tensors.pop("model.embed_tokens.weight")
    tables = (
        {"model.embed_tokens.weight": table, "lm_head.weight": table + 1}
        if held == "both"
        else {held[0]: table}
    )
    save_file(tensors | tables, tmp_path / "model.safetensors", metadata={"format": "pt"})
    module = trim.load_model(tmp_path, device="cpu").module
    with StreamedModel(tmp_path, device=torch.device("cpu")).outside() as streamed:
        assert torch.equal(streamed.get_input_embeddings().weight, table)
        assert torch.equal(streamed.get_output_embeddings().weight, tables.get("lm_head.weight", table))
        assert torch.equal(streamed.get_output_embeddings().weight, module.get_output_embeddings().weight)
    assert torch.equal(module.get_input_embeddings().weight, table)
