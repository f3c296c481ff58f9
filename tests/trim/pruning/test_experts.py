"""Mixtures of experts go the way of all models: every expert's layers by name, in every layout of files."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

import trim
from benchmarks import architectures
from tests.trim import rough, tiny
from trim import cli
from trim.calibration.calibration import Calibration
from trim.calibration.capture import LayerSample, scored_layers
from trim.calibration.input_listener import InputListener
from trim.calibration.inputs import MIN_TOKENS
from trim.methods.allocations import ScoredLayer
from trim.models.architecture import check_config
from trim.models.experts import Expert, Experts, MatrixPart, RoutedLinear
from trim.models.joined_experts import split_experts
from trim.models.loaded import Model
from trim.models.safetensors_header import TensorPlace
from trim.models.streamed import StreamedModel
from trim.pruning import layer as pruning
from trim.runs.block_file import BlockFile
from trim.runs.folder import block_file
from trim.runs.summary import summary

UP = "0.mlp.experts.1.up_proj"
# By type: the places of one up projection, and which part of a joined tensor it is.
JOINED = {
    "qwen3_moe": (UP, "mlp.experts.gate_up_proj", lambda joined: joined[1, 16:]),
    "gpt_oss": (UP, "mlp.experts.gate_up_proj", lambda joined: joined[1, :, 1::2].T),
    "llama4_text": (
        "0.feed_forward.experts.1.up_proj",
        "feed_forward.experts.gate_up_proj",
        lambda joined: joined[1, :, 48:].T,
    ),
    "dbrx": ("0.ffn.experts.1.down_proj", "ffn.experts.mlp.w2", lambda joined: joined.view(4, 48, 32)[1].T),
}
TOKENS = torch.randint(3, 250, (6, 24), generator=torch.Generator().manual_seed(0))


def module_of(kind: str) -> PreTrainedModel:
    return architectures.random_model(architectures.small_config(kind)).requires_grad_(False)


def folder_of(path: Path, module: PreTrainedModel, *, joined: bool = False) -> Path:
    """A folder as `save_pretrained` writes it, or with the weights as the model holds them."""
    module.save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    if joined:
        tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


pruned = partial(rough.pruned, tokens=TOKENS, allocation="uniform")


@pytest.mark.parametrize("kind", JOINED)
def test_layers_of_experts_compute_what_their_class_computes(kind):
    module = module_of(kind)
    layer, held, part = JOINED[kind]
    expected = architectures.logits(module, TOKENS)
    joined = next(each for name, each in module.named_parameters() if name.endswith(f".0.{held}"))
    weight = part(joined).clone()
    model = Model(kind, kind, kind, module, tiny.tokenizer())
    assert torch.allclose(architectures.logits(model.module, TOKENS), expected, atol=1e-5)
    assert len([each for each in model.layers if ".experts." in each]) == 2 * 4 * 3
    assert isinstance(model.layers[layer], RoutedLinear)
    assert torch.equal(model.layers[layer].weight, weight)


LAYOUTS = {
    "apart": ("mixtral", False),
    "joined": ("qwen3_moe", True),
    "transposed": ("gpt_oss", False),
    "rows": ("dbrx", False),
    "scaled": ("llama4_text", False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_read_resumed_and_exported(layout, tmp_path, own_cache):
    kind, joined = LAYOUTS[layout]
    module = module_of(kind)
    source = folder_of(tmp_path / "model", module, joined=joined)
    assert any("gate_up" in name for name in load_file(source / "model.safetensors")) == (
        layout in ("joined", "transposed", "scaled")
    )
    whole = pruned(source, tmp_path / "whole")

    rough.stopped(pruned, source, tmp_path / "run")
    run = trim.resume(tmp_path / "run")
    rough.assert_same_blocks(whole.path, run.path)
    assert run.metrics["sparsity"]["realised"] == 0.5
    exported = trim.export(run, tmp_path / "export")
    before, after = (load_file(each / "model.safetensors") for each in (source, exported))
    assert {name: tensor.shape for name, tensor in before.items()} == {
        name: tensor.shape for name, tensor in after.items()
    }
    zeros = sum(int((after[name] == 0).sum() - (before[name] == 0).sum()) for name in before)
    assert zeros == run.metrics["weights"]["pruned"]
    model = Model(kind, kind, kind, module, tiny.tokenizer())
    for name in run.layers:
        model.layers[name].weight.masked_fill_(~torch.from_numpy(run.layer(name).keep()), 0)
    plain = AutoModelForCausalLM.from_pretrained(exported).eval()
    expected = architectures.logits(model.module, TOKENS)
    assert torch.allclose(architectures.logits(plain, TOKENS), expected, atol=1e-5)


def experts_of(number: int, hidden: int = 4, inner: int = 3) -> Experts:
    torch.manual_seed(0)
    experts = []
    for _ in range(number):
        expert = Expert()
        expert.gate_proj, expert.up_proj = (RoutedLinear(torch.randn(inner, hidden), None) for _ in range(2))
        expert.down_proj, expert.act_fn = RoutedLinear(torch.randn(hidden, inner), None), torch.sigmoid
        experts.append(expert)
    return Experts({"up_proj.weight": MatrixPart("up")}, {}, experts)


def test_an_expert_hears_its_own_tokens_alone():
    """Of padding nothing counts, nor of a routing weight of 0; each window gives its V lowest ranks among the rest."""
    experts = experts_of(3)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    text = Calibration.of(torch.zeros(2, 6, dtype=torch.int64), mask, vectors_per_sequence=2)
    states = torch.randn(12, 4)
    index = torch.tensor([[0, 1]] * 6 + [[1, 0]] * 6)
    weights = torch.full((12, 2), 0.5)
    weights[[1, 3], 0] = 0  # of expert 0
    names = ["0.gate_proj", "0.up_proj", "0.down_proj", "1.up_proj", "2.up_proj"]
    listener = InputListener(text, {name: experts.get_submodule(name) for name in names})
    for window in range(2):
        part, rows = slice(window, window + 1), slice(6 * window, 6 * window + 6)
        with listener.listening(part):
            experts(states[rows], index[rows], weights[rows])
    received = listener.received()
    own = torch.tensor([0, 2, 4, 5, 6, 7, 8, 9])
    assert received["0.up_proj"] is received["0.gate_proj"]
    assert {name: each.tokens for name, each in received.items()} == {
        "0.gate_proj": 8, "0.up_proj": 8, "0.down_proj": 8, "1.up_proj": 10, "2.up_proj": 0,
    }  # fmt: skip
    expected = (states[own].square().sum(0) / 2).sqrt()
    assert torch.allclose(received["0.up_proj"].input_norm, expected)
    ranks = text.ranks.flatten()
    chosen = [
        *sorted(own[:4].tolist(), key=lambda place: int(ranks[place]))[:2],
        *sorted(own[4:].tolist(), key=lambda place: int(ranks[place]))[:2],
    ]
    assert torch.equal(received["0.up_proj"].inputs, states[sorted(chosen)].T)
    inner = torch.sigmoid(experts.get_submodule("0.gate_proj")(states[own])) * experts.get_submodule(
        "0.up_proj"
    )(states[own])
    assert torch.allclose(received["0.down_proj"].input_norm, (inner.square().sum(0) / 2).sqrt())
    # An expert that all tokens reach keeps the vectors of every other layer.
    assert torch.equal(
        received["1.up_proj"].inputs, states[(text.positions + torch.tensor([[0], [6]])).flatten()].T
    )
    assert received["2.up_proj"].inputs.shape == (4, 0)


def ties(module: nn.Module) -> None:
    """Let every token be routed to experts 0 and 1."""
    with torch.no_grad():
        for layer in module.model.layers:
            layer.mlp.gate.weight.zero_()


@pytest.mark.parametrize(
    "settings",
    [{"allocation": "optimal", "budget": "optimal"}, {"budget": "owl"}],
    ids=["optimal", "owl"],
)
def test_experts_that_no_token_reaches_are_pruned_by_magnitude(settings, tmp_path, own_cache):
    module = module_of("qwen3_moe")
    ties(module)
    notes: list[object] = []
    chosen = {"layers": ("*.experts.*",), **settings}
    run = pruned(folder_of(tmp_path / "model", module), tmp_path / "run", listener=notes.append, **chosen)
    assert run.metrics["experts"] == {
        "layers": 24, "fewest_tokens": 0, "most_tokens": 144, "too_few_tokens": 12,
    }  # fmt: skip
    assert any(f"fewer than {MIN_TOKENS} they are pruned by magnitude" in str(note) for note in notes)
    assert run.metrics["sparsity"]["realised"] == 0.5
    layers = [run.layer(f"0.mlp.experts.{expert}.up_proj") for expert in range(4)]
    assert (
        sorted((layer.tokens, layer.score) for layer in layers)
        == [(0, "magnitude")] * 2 + [(144, "wanda")] * 2
    )
    for layer in layers:
        if not layer.tokens:
            assert layer.dead_rows.all()
            assert layer.counts.max() - layer.counts.min() <= 1
            assert layer.sparsity == pytest.approx(0.5, abs=0.1 if settings.get("budget") == "owl" else 0)


@pytest.mark.parametrize("settings", [{"refit": True}, {"allocation": "solved"}], ids=["refit", "solved"])
def test_experts_of_fewer_tokens_than_inputs_keep_their_weights(settings, tmp_path, own_cache):
    source, chosen = (
        folder_of(tmp_path / "model", module_of("qwen3_moe")),
        {"layers": ("*.experts.*",), **settings},
    )
    run = pruned(source, tmp_path / "run", tokens=TOKENS[:4], **chosen)
    for name in run.layers:
        record = run.layer(name)
        if record.tokens < max(record.columns, MIN_TOKENS):
            assert (record.allocation, record.kept_weights) == ("uniform", None)
        elif "allocation" in settings:
            assert record.allocation == "solved"


@pytest.mark.parametrize(
    "settings", [{"allocation": "trim"}, {"allocation": "optimal", "row_weights": "ones"}]
)
def test_experts_in_groups_are_pruned_as_each_alone(settings, tmp_path, own_cache, monkeypatch):
    source = folder_of(tmp_path / "model", module_of("qwen3_moe"))
    # One vector of each window: every expert has one to give, and sums over as many are the same bit for bit.
    options = {"layers": ("0.*",), "vectors_per_sequence": 1, **settings}
    alone = pruned(source, tmp_path / "alone", **options)
    monkeypatch.setattr(pruning, "has_kernels", lambda device: True)
    reported: list[str] = []
    together = pruned(
        source, tmp_path / "together", progress=lambda event: reported.append(event.what), **options
    )
    assert "Pruning 0.self_attn.k_proj and 9 more of its shape" in reported
    rough.assert_same_blocks(alone.path, together.path)
    sizes: list[int] = []

    def short_of_memory(samples: list[LayerSample], *rest: object) -> ScoredLayer:
        sizes.append(len(samples))
        if len(samples) > 3:
            raise MemoryError
        return scored_layers(samples, *rest)

    monkeypatch.setattr(pruning, "scored_layers", short_of_memory)
    halved = pruned(source, tmp_path / "halved", **options)
    assert 10 in sizes
    rough.assert_same_blocks(alone.path, halved.path)


def test_the_table_of_a_run_joins_experts_and_opens_each_block_once(tmp_path, monkeypatch):
    run = pruned(folder_of(tmp_path / "model", module_of("qwen3_moe")), tmp_path / "run")
    opened, opening = [], BlockFile.__init__
    monkeypatch.setattr(
        BlockFile, "__init__", lambda own, path, *rest: opened.append(path) or opening(own, path, *rest)
    )
    table = {line.split()[0]: line.split()[1] for line in summary(run).splitlines()}
    experts = [name for name in run.layers if name.endswith(".up_proj")]
    assert table["mlp.experts.*.up_proj"] == str(len(experts))
    assert len(experts) > len(run.blocks)
    assert opened == [run.path / block_file(index) for index in run.blocks]


def test_a_weight_that_is_nan_is_named(tmp_path):
    module = module_of("qwen3_moe")
    with torch.no_grad():
        module.model.layers[1].mlp.experts.gate_up_proj[2, 3, 0] = torch.nan
    with pytest.raises(trim.NonFiniteError, match=r"1\.mlp\.experts\.2\.gate_proj has a weight that is NaN"):
        pruned(folder_of(tmp_path / "model", module), tmp_path / "run")


def test_routers_stay_dense_unless_they_are_named():
    module = module_of("llama4_text")
    model = Model("llama4", "llama4", "llama4", module, tiny.tokenizer())
    routers = ["0.feed_forward.router", "1.feed_forward.router"]
    assert set(model.layers) - set(model.select(["*"])) == set(routers)
    assert model.select(["*.router"]) == routers
    assert routers[0] not in model.select(["0.*"])


def test_layers_kept_dense_are_reported_before_a_run(tmp_path, capsys):
    for kind, message in {
        "qwen2_moe": "24 of them experts'. Stays dense unless it is named: weight of Qwen2MoeTopKRouter: 256 weights; "
        "shared_expert_gate, weighs a shared expert: 64 weights.",
        "llama4_text": "router, routes tokens to experts: 256 weights.",
    }.items():
        architectures.small_config(kind).save_pretrained(tmp_path / kind)
        (tmp_path / kind / "model.safetensors").touch()
        assert cli.main(["inspect", "--model", str(tmp_path / kind)]) == 0
        assert message in capsys.readouterr().out.replace("\n", " ")


def test_a_single_tensor_is_read_of_a_joined_one(tmp_path, monkeypatch):
    source = folder_of(tmp_path / "model", module_of("qwen3_moe"), joined=True)
    model = StreamedModel(source, device=torch.device("cpu"))
    read: list[tuple[int, ...]] = []
    plain: Callable[..., dict[str, torch.Tensor]] = model.files.read_chunk

    def watch(chunk: dict[str, TensorPlace], **options: object) -> dict[str, torch.Tensor]:
        read.extend(place.shape for place in chunk.values())
        return plain(chunk, **options)

    monkeypatch.setattr(model.files, "read_chunk", watch)
    expected = load_file(source / "model.safetensors")["model.layers.0.mlp.experts.gate_up_proj"][1, 16:]
    assert torch.equal(model.weight(UP), expected)
    assert read == [(16, 32)]


def test_weights_of_experts_are_views_where_they_can_be():
    module = module_of("qwen3_moe")
    joined = module.model.layers[0].mlp.experts.gate_up_proj
    split_experts(module)
    experts = module.model.layers[0].mlp.experts
    assert experts.get_submodule("0.gate_proj").weight.data_ptr() == joined.data_ptr()
    copy.deepcopy(module)


def test_a_quantized_mixture_says_how_to_dequantize_it():
    config = architectures.small_config("gpt_oss")
    config.quantization_config = {"quant_method": "mxfp4"}
    with pytest.raises(trim.ModelError, match=r"Mxfp4Config\(dequantize=True\)"):
        check_config(config)
