"""Check every type of the installed `transformers` that writes text, tiny and random: pruned right, or refused and why.

For each type: our pass block by block at zero sparsity gives the logits of a plain forward pass; `trim.prune` by Wanda
gives exactly the sparsity that was asked for, and the masks of a Wanda written here with plain hooks; the export gives
in plain `transformers` the logits of that Wanda's model. With --write the table in
docs/models-and-texts.md is written; with TYPE … only their places in it change.

    python -m benchmarks.architectures [--write] [TYPE …]
"""

import contextlib
import datetime
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

import trim
from benchmarks.script import script_parser
from tests.trim import tiny
from trim.calibration.calibration import Calibration
from trim.calibration.inputs import MIN_TOKENS
from trim.calibration.layers import linear_layers
from trim.calibration.text_pass import text_pass
from trim.models.architecture import UNBUILT, blueprint
from trim.models.checkpoint import read_config
from trim.models.experts import RoutedLinear
from trim.models.loaded import Model
from trim.models.reasons import Reason
from trim.models.replay import run_after_blocks
from trim.models.streamed import StreamedModel
from trim.models.towers import auto_class

DOCUMENT = Path(__file__).parents[1] / "docs" / "models-and-texts.md"
BEGIN, END = "<!-- python -m benchmarks.architectures --write -->", "<!-- end of the table -->"
SPARSITY = 0.5
WINDOWS, LENGTH = 4, 24
# The largest difference of logits that stays a matter of rounding: these are float32 and of order one.
TOLERANCE = 1e-4
MAX_PARAMETERS = 80_000_000
# Names of sizes in configurations, and what they are made: those that a configuration lacks are left out.
SMALL = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "n_vocab"), 256),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size", "emb_dim", "embed_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "attention_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "n_inner", "dim_ff", "ffn_hidden_size"), 48),
    **dict.fromkeys(("head_dim", "d_kv", "qk_nope_head_dim", "v_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"), 128),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "image_token_id"), 0),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size", "attention_chunk_size"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 4),
    **dict.fromkeys(("n_group", "topk_group", "mamba_n_groups", "first_k_dense_replace"), 1),
    **dict.fromkeys(("mamba_d_state", "mamba_d_head", "linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    "num_experts_per_tok": 2, "mamba_n_heads": 8, "mamba_d_ssm": 64, "word_embed_proj_dim": 32, "lru_width": 32,
    "encoder_attention_heads": 4, "encoder_ffn_dim": 48,
    **dict.fromkeys(("depth", "encoder_layers"), 2),
    **dict.fromkeys(("out_hidden_size", "projection_dim", "mm_hidden_size", "projector_dim", "text_hidden_size"), 32),
    "image_size": 28, "patch_size": 14,
    "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "laurel_rank": 4,
}  # fmt: skip
# Text towers whose tokens have three positions, each for a part of half a head.
THREE_POSITIONS = (
    "qwen2_vl_text", "qwen2_5_vl_text", "glm4v_text", "glm_ocr_text", "paddleocr_vl_text", "qwen2_5_omni_text",
    "hunyuan_vl_text",
)  # fmt: skip
# transformers itself does not find the weights of these in the names under which it saves them.
NOT_READ_AS_SAVED = ("shieldgemma2",)
# What single types need besides: layers of each of their kinds, and sizes that have to fit each other.
OWN: dict[str, dict[str, object]] = {
    "gemma3_text": {"num_hidden_layers": 6}, "cohere2": {"num_hidden_layers": 4},
    "exaone4": {"num_hidden_layers": 4}, "olmo3": {"num_hidden_layers": 4}, "smollm3": {"num_hidden_layers": 4},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gemma3n_text": {"num_hidden_layers": 5, "activation_sparsity_pattern": None},
    "stablelm": {"qk_layernorm": True}, "cohere": {"use_qk_norm": True},
    "zamba2": {"num_hidden_layers": 6, "layers_block_type": ["mamba", "hybrid"] * 3,
               "mamba_headdim": 8, "n_mamba_heads": 8},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "mpt": {"no_bias": True}, "zaya": {"num_experts_per_tok": 1},
    "hunyuan_v1_dense": {"head_dim": 8}, "hunyuan_v1_moe": {"head_dim": 8, "moe_topk": 2},
    "ministral": {"head_dim": 8}, "nemotron": {"num_key_value_heads": 2}, "bert-generation": {},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10_000.0},
             "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "cohere_compass_text": {"rope_parameters": {
        kind: {"rope_type": "default", "rope_theta": 10_000.0} for kind in ("full_attention", "sliding_attention")}},
    "zamba": {"num_hidden_layers": 6, "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2},
    **{kind: {"head_dim": 4, "num_key_value_heads": 4} for kind in (
        "minicpm3", "youtu", "deepseek_v3", "deepseek_v32", "axk1", "axk2", "glm4_moe_lite",
        "glm_moe_dsa", "longcat_flash")},
    "deepseek_v2": {"head_dim": 4, "num_key_value_heads": 4, "num_experts_per_tok": 2},
    "ernie4_5_moe": {"moe_k": 2}, "kimi_linear": {"num_experts_per_token": 2},
    "dots3_note_text": {"num_key_value_heads": 4},
    "gemma4_text": {"num_hidden_layers": 4, "num_kv_shared_layers": 2,
                    "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "hrm_text": {"num_layers_per_stack": 2},
    "hunyuan_vl_text": {"head_dim": 8},
    "chameleon": {"vocabulary_map": {"<image>": 4}}, "emu3": {"vocabulary_map": {"<|extra_200|>": 4, "<image>": 5}},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
    "granite4_vision": {"deepstack_layer_map": [[0, 0]], "vision_config": {"hidden_size": 128},
                        "downsample_rate": "1/2"},
    "step3p5": {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"],
                "mlp_layer_types": ["dense", "sparse"], "share_expert_dim": 16},
    "mistral_large4_text": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "dots3_note_vision_encoder": {"mlp_layer_types": ["dense", "dense"], "per_layer_config": {}, "adapter_in_dim": 32,
                                  "adapter_out_dim": 32},
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "emu3_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "attn_resolutions": [1],
                   "codebook_size": 64},
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [16, 16], "moe_k": 2, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}},
    "glm5_next_text": {"num_key_value_heads": 4, "qk_rope_head_dim": 0, "num_experts_per_tok": 2, "index_topk": 32},
    "blip_2_qformer": {"num_hidden_layers": 1},
    "molmo2_adapter": {"vision_feature_layer": [1, 0], "num_key_value_heads": 4},
    "muse_spark_audio": {"num_hidden_layers": 2, "patch_sizes": [4, 4], "hidden_sizes": [16, 32], "depths": [1, 1]},
    "muse_spark_text": {"moe_hidden_size": 32, "num_experts_per_tok": 2},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}, "vision_hidden_size": 32},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}},
    "fun_asr_nano_encoder": {"num_timestamp_prediction_layers": 1},
    "kyutai_speech_to_text": {"codebook_vocab_size": 64, "num_codebooks": 2, "audio_bos_token_id": 2,
                              "audio_pad_token_id": 3, "num_key_value_heads": 4},
    "mimi": {"upsample_groups": 32, "num_filters": 4, "upsampling_ratios": [2, 2], "codebook_size": 64,
             "vector_quantization_hidden_dimension": 8},
    "qwen3_omni_moe": {"talker_config": {"spatial_merge_size": 2}},
    "nemotron3_diarization": {"head_config": {"audio_hidden_size": 32}},
    "nemotron3_5_transcribe_word_timestamp": {"vocab_size": 256, "blank_token_id": 255, "num_key_value_heads": 4},
    "nemotron3_5_transcribe_asr_audio": {"num_key_value_heads": 4},
    "nemotron3_diarization_audio": {"num_key_value_heads": 4},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 16},
    "vibevoice_acoustic_tokenizer_encoder": {
        "num_filters": 4, "downsampling_ratios": [2, 2], "depths": [1, 1, 1]},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16},
    "mistral4": {"head_dim": 12, "num_key_value_heads": 4, "num_experts_per_tok": 2},
    "bailing_hybrid": {"num_expert_group": 1, "num_experts_per_token": 2, "layer_group_size": 2,
                       "num_key_value_heads": 4, "num_shared_experts": 1},
    "glm4v_moe_text": {"head_dim": 16, "num_experts_per_tok": 2, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}},
}  # fmt: skip


def types() -> dict[str, str]:
    """The class of every type of model that reads text from left to right, alone or beside pictures and sound."""
    return MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES | MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def small_config(kind: str) -> PretrainedConfig:
    """A configuration of a type with tiny sizes."""
    own = OWN.get(kind, {})
    known = AutoConfig.for_model(kind, **{name: own[name] for name in ("text_config",) if name in own})
    config: PretrainedConfig = AutoConfig.for_model(kind, **joined(small_sizes(known), own))
    config.architectures = [types()[kind]]
    return config


def small_sizes(known: PretrainedConfig) -> dict[str, object]:
    """The settings that make a configuration small, and those of the towers in it."""
    known.allow_global_per_layer_attribute_access = True
    mapped = set(getattr(type(known), "attribute_map", {}))
    settings: dict[str, object] = {
        name: value for name, value in SMALL.items() if name not in mapped and is_setting(known, name)
    }
    rotary = getattr(known, "rope_parameters", None)
    if isinstance(rotary, dict) and ("mrope_section" in rotary or known.model_type in THREE_POSITIONS):
        settings["rope_parameters"] = rotary | {"mrope_section": [2, 1, 1]}
    for name in known.sub_configs:
        if isinstance(tower := getattr(known, name, None), PretrainedConfig):
            settings[name] = joined(small_sizes(tower), OWN.get(tower.model_type, {})) | {
                "model_type": tower.model_type
            }
    return settings


def joined(settings: dict[str, object], own: dict[str, object]) -> dict[str, object]:
    """Settings with others in place of some, in towers too."""
    found = dict(settings)
    for name, value in own.items():
        before = settings.get(name)
        both = isinstance(before, dict) and isinstance(value, dict) and "model_type" in before
        found[name] = before | value if both else value
    return found


def is_setting(config: PretrainedConfig, name: str) -> bool:
    """Whether a configuration has a whole number of that name that may be another."""
    if isinstance(getattr(type(config), name, None), property):
        return False
    try:
        return type(getattr(config, name, None)) is int
    except AttributeError:  # it has one for each block
        return False


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    """A model whose weights are far enough from zero for each of its parts to show in the logits."""
    torch.manual_seed(0)
    module = auto_class(config).from_config(config).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2 or (parameter.ndim == 3 and "expert" in name):
                parameter.normal_(std=0.15)
            elif parameter.ndim == 1 and "norm" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return module


@torch.no_grad()
def logits(module: PreTrainedModel, tokens: Tensor) -> Tensor:
    """The logits of a plain forward pass."""
    found: Tensor = module(input_ids=tokens, use_cache=False).logits
    return found


@torch.inference_mode()
def logits_block_by_block(folder: Path, tokens: Tensor) -> Tensor:
    """The logits of our pass, with one block at a time in memory."""
    model = StreamedModel(folder, device=torch.device("cpu"))
    with text_pass(model, Calibration.of(tokens), batch=2, folder=folder) as text:
        for index in range(len(model.blocks)):
            with model.block(index) as block:
                text.propagate(index, block)
        states = text.states.read(slice(0, len(tokens)), torch.device("cpu"))
    with model.outside() as module:
        return run_after_blocks(module, model.blocks, tokens, None, states)


@contextlib.contextmanager
def squares_of(layers: dict[str, nn.Linear]) -> Iterator[dict[str, Tensor]]:
    """Σ x_j² over all tokens that each layer receives meanwhile; 1 where they are too few, and norms do not count."""
    sums: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            square = arguments[0].reshape(-1, arguments[0].shape[-1]).double().square().sum(0)
            sums[name] = sums.get(name, 0) + square
            tokens[name] = tokens.get(name, 0) + arguments[0].shape[:-1].numel()

        return add

    hooks = [layer.register_forward_pre_hook(listen(name)) for name, layer in layers.items()]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
    for name, square in sums.items():
        if isinstance(layers[name], RoutedLinear) and tokens[name] < MIN_TOKENS:
            square.fill_(1)


@torch.no_grad()
def wanda(model: Model, tokens: Tensor) -> dict[str, Tensor]:
    """Prune each layer's rows by |w| · ‖x‖, block after block, each from whole forward passes; returns the scores."""
    scores = {}
    chosen = model.select(["*"])
    for index, block in enumerate(model.blocks):
        layers = linear_layers(block, index, chosen)
        with squares_of(layers) as squares:
            logits(model.module, tokens)
        for name, layer in layers.items():
            scores[name] = layer.weight.double().abs() * squares[name].sqrt()
            lowest = scores[name].argsort(dim=1, stable=True)[:, : round(layer.in_features * SPARSITY)]
            layer.weight.scatter_(1, lowest, 0)
    return scores


def check(kind: str, work: Path) -> str:
    """Check one type; returns "" where all is right, or else why it is refused.

    Raises:
        AssertionError: something is not right; the message says what.
    """
    original = work / "model"
    try:
        whole = small_config(kind)
    except ImportError:  # the installation is broken
        raise
    except Exception:  # sizes that have to fit each other in ways of the type's own
        return Reason.TOO_LARGE
    whole.save_pretrained(original)
    try:
        config = read_config(original)
        size = sum(parameter.numel() for parameter in blueprint(config).parameters())
    except trim.ModelError as error:
        return reason(error)
    if size > MAX_PARAMETERS:
        return Reason.TOO_LARGE
    random_model(whole).save_pretrained(original, save_original_format=kind not in NOT_READ_AS_SAVED)
    tiny.tokenizer().save_pretrained(original)
    tokens = torch.randint(3, 250, (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(0))
    try:
        trim.describe_model(original)
        StreamedModel(original, device=torch.device("cpu"))
    except trim.ModelError as error:
        return reason(error)
    plain = auto_class(config).from_pretrained(original, config=config).eval()
    expected = logits(plain, tokens)
    gap = float((logits(plain, tokens[:, :-1]) - expected[:, :-1]).abs().max())
    assert gap < TOLERANCE, f"without its last token a text's other logits differ by {gap:.2g}"
    gap = float((logits_block_by_block(original, tokens) - expected).abs().max())
    assert gap < TOLERANCE, f"block by block the logits differ by {gap:.2g}"
    run = trim.prune(original, work / "run", tokens=tokens, target=SPARSITY, allocation="uniform")
    model = Model(kind, kind, kind, plain, tiny.tokenizer())
    scores, dense = wanda(model, tokens), StreamedModel(original, device=torch.device("cpu"))
    for name in run.layers:
        layer = model.layers[name]
        kept, ours = torch.from_numpy(run.layer(name).keep()), layer.weight != 0
        assert kept.sum() == ours.sum(), f"{name}: the sparsity is not exact"
        differ = kept != ours
        limit = scores[name].median(dim=1, keepdim=True).values.expand_as(differ)
        # Of two scores that are equal but for rounding, either may go.
        tied = (scores[name] - limit).abs() < 1e-5 * limit
        assert not bool((differ & ~tied).any()), f"{name}: {int(differ.sum())} places of the masks differ"
        layer.weight.data = torch.where(kept, dense.weight(name), 0)
    exported = auto_class(config).from_pretrained(trim.export(run, work / "export"), config=config).eval()
    gap = float((logits(exported, tokens) - logits(plain, tokens)).abs().max())
    assert gap < TOLERANCE, f"the logits of the export differ by {gap:.2g}"
    return ""


def reason(error: trim.ModelError) -> str:
    """Find which of the known reasons an error gives.

    Raises:
        AssertionError: it gives none.
    """
    if UNBUILT in str(error):
        return Reason.TOO_LARGE
    (found,) = [reason for reason in Reason if reason in str(error)] or [""]
    assert found, f"refused for no reason that is known: {error}"
    return found


def checked(kind: str) -> tuple[str, str]:
    """A type's outcome, "pruned", "refused" or "fault", and what there is to say."""
    with tempfile.TemporaryDirectory() as work:
        os.environ["TRIM_CACHE"] = f"{work}/cache"
        try:
            refused = check(kind, Path(work))
            return ("refused", refused) if refused else ("pruned", "")
        except Exception as error:
            lines = f"{type(error).__name__}: {error}".splitlines()
            return "fault", re.sub(r"/\S+/model", "its folder", lines[0])[:160]


def table(outcomes: dict[str, tuple[str, str]]) -> str:
    """The outcomes as Markdown, with date and versions."""
    by_kind: dict[str, list[str]] = {}
    version = torch.__version__.partition("+")[0]
    for kind, (outcome, words) in outcomes.items():
        by_kind.setdefault(words if outcome != "pruned" else "", []).append(f"`{kind}`")
    pruned = by_kind.pop("", [])
    rows = sorted(by_kind.items(), key=lambda row: -len(row[1]))
    return "\n".join(
        [
            f"{datetime.date.today()}, transformers {transformers.__version__}, torch {version}: "
            f"{len(pruned)} of {len(outcomes)} types that write text pass all checks.",
            "",
            "Pruned: " + ", ".join(pruned) + ".",
            "",
            "| not pruned, because | types |",
            "|---|---|",
            *(f"| {words} | {', '.join(kinds)} |" for words, kinds in rows),
        ]
    )


def written(text: str) -> dict[str, tuple[str, str]]:
    """The outcomes that a table holds."""
    outcomes = {}
    for line in text.splitlines():
        words, _, kinds = line.removeprefix("| ").partition(" | ") if line[:1] == "|" else ("", "", line)
        if words or line.startswith("Pruned: "):
            outcome = "refused" if words in list(Reason) else "fault" if words else "pruned"
            outcomes |= dict.fromkeys(re.findall("`(.+?)`", kinds), (outcome, words))
    return outcomes


def main() -> None:
    """Check the types, and print the table."""
    parser = script_parser(__doc__)
    parser.add_argument("types", nargs="*", help="types of the installed transformers; default: all")
    parser.add_argument(
        "--write", action="store_true", help=f"write the table into {DOCUMENT.name}; others stay"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    begin = time.perf_counter()
    outcomes: dict[str, tuple[str, str]] = {}
    for kind in options.types or types():
        outcomes[kind] = checked(kind)
        print(f"{kind:28} {outcomes[kind][0]:8} {outcomes[kind][1]}", flush=True)
    if options.write:
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        old, _, after = rest.partition(END)
        known = written(old) | outcomes
        found = table({kind: known[kind] for kind in types()})
        DOCUMENT.write_text(f"{before}{BEGIN}\n{found}\n{END}{after}", encoding="utf-8")
    counts = {
        word: sum(word == outcome for outcome, _ in outcomes.values())
        for word in ("pruned", "refused", "fault")
    }
    print(json.dumps({"seconds": round(time.perf_counter() - begin), **counts}))


if __name__ == "__main__":
    main()
