"""Tiny random models of each family, as folders with a tokenizer."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from trim.checkpoint import quiet

VOCABULARY = 260
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
    "opt": lambda **more: OPTConfig(**(_SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 16} | more)),
}


def make_model(family: str, folder: Path, seed: int = 0, **more: object) -> Path:
    """Save a random model of a family with a byte tokenizer; returns the folder."""
    torch.manual_seed(seed)
    module = AutoModelForCausalLM.from_config(CONFIGS[family](**more))
    with torch.no_grad():
        for parameter in module.parameters():  # also biases and norms, which begin as 0 and 1
            # A few large weights, so that rows differ.
            noise = torch.randn_like(parameter)
            parameter.add_(noise.pow(3) * (0.05 if parameter.ndim > 1 else 0.02))
    with quiet():
        module.save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {c: 4 + i for i, c in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def load(folder: Path) -> torch.nn.Module:
    """The model with plain transformers, float32."""
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def random_tokens(sequences: int = 6, length: int = 16, seed: int = 0) -> torch.Tensor:
    """(sequences, length) int64."""
    return torch.randint(4, VOCABULARY, (sequences, length), generator=torch.Generator().manual_seed(seed))
