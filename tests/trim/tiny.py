"""Models so small that a test can make them: random weights, two or three blocks, one token per byte of text."""

import functools
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

BLOCKS = 3
_SIZES = {
    "vocab_size": 256,
    "hidden_size": 32,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GATED = {**_SIZES, "num_key_value_heads": 2, "intermediate_size": 48}

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
GATED_LAYERS = (*ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
OPT_LAYERS = (*ATTENTION[:3], "self_attn.out_proj", "fc1", "fc2")

# Configuration class, its settings, and the layers that a block must have.
TWO_KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
SUPPORTED = {
    "llama": ("LlamaConfig", _GATED, GATED_LAYERS),
    "mistral": ("MistralConfig", {**_GATED, "sliding_window": 8}, GATED_LAYERS),
    "qwen2": ("Qwen2Config", {**_GATED, "tie_word_embeddings": True}, GATED_LAYERS),  # biases, tied
    "qwen3": ("Qwen3Config", {**_GATED, "head_dim": 16}, GATED_LAYERS),  # norms inside attention
    "gemma": ("GemmaConfig", {**_GATED, "head_dim": 16}, GATED_LAYERS),
    "gemma2": ("Gemma2Config", {**_GATED, "head_dim": 8}, GATED_LAYERS),
    "gemma3": (  # masks and rotary tables of two kinds
        "Gemma3TextConfig",
        {**_GATED, "head_dim": 16, "sliding_window": 8, "layer_types": TWO_KINDS},
        GATED_LAYERS,
    ),
    "opt": ("OPTConfig", {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 16}, OPT_LAYERS),
}


def config(kind: str, **more: object) -> transformers.PretrainedConfig:
    """The settings of a tiny model."""
    name, settings, _ = SUPPORTED[kind]
    return getattr(transformers, name)(**(settings | more))


def module(kind: str, seed: int = 0, **more: object) -> torch.nn.Module:
    """A tiny model with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config(kind, **more)).eval()


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def folder(
    path: Path, kind: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32, **more: object
) -> Path:
    """A folder with a tiny model, as `save_pretrained` writes it; `more`: settings."""
    module(kind, seed, **more).to(dtype).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
