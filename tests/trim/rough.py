"""Tiny models whose rows, biases and norms all differ, for what must hold in whole models of each family."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
)

from tests.trim import tiny
from trim.models.checkpoint import quiet

VOCABULARY = 256
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GATED = _SIZES | {"intermediate_size": 48, "num_key_value_heads": 2}

CONFIGS = {
    "llama": lambda **more: LlamaConfig(**(_GATED | more)),
    "qwen2": lambda **more: Qwen2Config(**(_GATED | {"tie_word_embeddings": True} | more)),  # biases, tied
    "qwen3": lambda **more: Qwen3Config(**(_GATED | {"head_dim": 16} | more)),  # norms inside attention
    "mistral": lambda **more: MistralConfig(**(_GATED | {"sliding_window": 8} | more)),
    "gemma": lambda **more: GemmaConfig(**(_GATED | {"head_dim": 16} | more)),
    "gemma3": lambda **more: Gemma3TextConfig(  # masks and rotary tables of two kinds
        **(_GATED | {"head_dim": 16, "sliding_window": 8, "layer_types": _TWO_KINDS} | more)
    ),
    "opt": lambda **more: OPTConfig(**(_SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 16} | more)),
}
_TWO_KINDS = ["sliding_attention", "full_attention", "sliding_attention"]


def make_model(family: str, folder: Path, seed: int = 0, **more: object) -> Path:
    """Save a model of a family with the byte tokenizer; returns the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = AutoModelForCausalLM.from_config(CONFIGS[family](**more))
        with torch.no_grad():
            for parameter in module.parameters():  # also biases and norms, which begin as 0 and 1
                # A few large weights, so that rows differ.
                noise = torch.randn_like(parameter).pow_(3)
                parameter.add_(noise, alpha=0.05 if parameter.ndim > 1 else 0.02)
    with quiet():
        module.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
    return folder


def load(folder: Path) -> torch.nn.Module:
    """The model with plain transformers, float32."""
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def random_tokens(sequences: int = 6, length: int = 16, seed: int = 0) -> torch.Tensor:
    """(sequences, length) int64."""
    return torch.randint(0, VOCABULARY, (sequences, length), generator=torch.Generator().manual_seed(seed))
