"""Continue a prompt with a model."""

from collections.abc import Callable
from typing import cast

import torch

from trim.errors import CorpusError, NonFiniteError
from trim.evaluation.settings import Sampling
from trim.models.loaded import Model
from trim.models.replaced import replaced
from trim.names import one_line


def continue_prompt(model: Model, prompt: str, sampling: Sampling | None = None) -> str:
    """Continue a prompt, and return the new text, which may end early with the end-of-text token.

    The same model, prompt and sampling on the same device give the same text.

    Raises:
        CorpusError: the prompt is empty, or leaves no room in the model's context for the new tokens.
        NonFiniteError: the model computes NaN instead of probabilities.
    """
    sampling = sampling or Sampling()
    # verbose=False: no warning about a prompt longer than the context, which is an error below
    tokens = model.tokenizer(prompt, return_tensors="pt", verbose=False)["input_ids"].long()
    if not prompt.strip() or tokens.shape[1] == 0:
        raise CorpusError("the prompt is empty; give a few words to continue")
    longest = model.longest_window
    if longest and tokens.shape[1] + sampling.new_tokens > longest:
        raise CorpusError(
            f"the prompt {one_line(prompt, 40)!r} has {tokens.shape[1]:,} tokens, and with {sampling.new_tokens:,} new "
            f"ones it exceeds the {longest:,} tokens that {model.title} reads at once; shorten the prompt or "
            "request fewer new tokens"
        )
    written = _generate(model, tokens.to(model.device), sampling)
    return model.tokenizer.batch_decode([written.tolist()], skip_special_tokens=True)[0]


def _generate(model: Model, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Generate the new tokens, (new,) int64."""
    from transformers import GenerationConfig

    defaults = model.module.generation_config
    end = defaults.eos_token_id if defaults is not None else None
    end = model.tokenizer.eos_token_id if end is None else end
    padding = end[0] if isinstance(end, list) else end
    sampled = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        max_new_tokens=sampling.new_tokens,
        eos_token_id=end,
        pad_token_id=0 if padding is None else padding,
        **(sampled if sampling.temperature > 0 else {"do_sample": False}),
    )
    # Causal language models inherit `generate` from a second base class, which their declared type does not show.
    generate = cast(Callable[..., torch.Tensor], model.module.generate)
    # The checkpoint's own defaults, such as a repetition penalty, must not apply.
    without_defaults = replaced(model.module, "generation_config", GenerationConfig())
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices=devices), without_defaults:
        torch.manual_seed(sampling.seed)
        output = generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            generation_config=config,
            logits_processor=[_require_numbers],
        )
    return output[0, tokens.shape[1] :]


def _require_numbers(tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Refuse NaN, as a logits processor: sampling from NaN would end the process on a GPU."""
    if bool((scores.isnan() | scores.isposinf()).any()):
        raise NonFiniteError(
            "the model computes NaN or infinity after this prompt; compute in a wider type (--dtype float32), or check "
            "the checkpoint"
        )
    return scores
