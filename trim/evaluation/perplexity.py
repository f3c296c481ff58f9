"""Perplexity of a language model on windows of a text, as the authors of Wanda and TRIM measure it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trim.calibration.corpora import check_length
from trim.devices import halving
from trim.errors import CorpusError
from trim.evaluation.entries import numbers_to_json
from trim.models.loaded import Model
from trim.progress import Meter, ProgressListener

# The logits of one forward pass, in bytes of float32: a vocabulary of 152,000 makes them the largest tensor by far.
LOGIT_BYTES = {"cpu": 2**29, "cuda": 2**32}
SLICE_TOKENS = 256  # tokens whose logits become float32 at once


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a text.

    Attributes:
        perplexity: exp of the mean negative log-likelihood; may be NaN or infinite.
        negative_log_likelihood: the mean over all predictions, in nats per token.
        windows, length: number of windows, and tokens per window; each window yields length − 1 predictions.
        undefined_windows: number of windows with NaN or infinity; one suffices to make the perplexity undefined.
    """

    perplexity: float
    negative_log_likelihood: float
    windows: int
    length: int
    undefined_windows: int = 0

    def to_json(self) -> dict:
        """Return plain JSON, with NaN and infinity as the words "nan" and "inf", which `float` reads."""
        return numbers_to_json(self)


def perplexity(
    model: Model,
    windows: Tensor,
    *,
    batch: int | None = None,
    progress: ProgressListener | None = None,
) -> Perplexity:
    """Compute exp of the mean negative log-likelihood of each token given those before it in its window.

    Log-probabilities are float32, their sums float64. Every window has the same weight.

    Args:
        model: a model in any type, on any device.
        windows: (windows, length) int64, as `load_corpus(…, split="evaluation")` cuts them.
        batch: windows in one forward pass; None: chosen by the size of the logits. Halved when memory runs out.
        progress: called after each forward pass.

    Raises:
        CorpusError: no windows, windows longer than the model's context, or tokens that the model does not have.
        NotEnoughMemoryError: a single window does not fit into memory.

    Source: Wanda (arXiv 2306.11695), `eval_ppl_wikitext` of its code.
    """
    by_window = token_losses(model, windows, batch=batch, progress=progress).double().mean(dim=1)
    mean = float(by_window.mean())
    return Perplexity(
        exp(mean), mean, len(windows), windows.shape[1], int((~torch.isfinite(by_window)).sum())
    )


def token_losses(
    model: Model,
    windows: Tensor,
    *,
    batch: int | None = None,
    progress: ProgressListener | None = None,
) -> Tensor:
    """Compute the negative log-likelihood of each token given those before it in its window, in nats.

    Arguments and errors are those of `perplexity`.

    Returns:
        (windows, length − 1) float32 in host memory; the first token of a window is given, not predicted.
    """
    check_windows(model, windows)
    batch = min(batch or logit_windows(model, windows.shape[1]), len(windows))
    losses: list[Tensor] = []
    done = 0
    meter = Meter(progress, of=len(windows))
    meter.report("Measuring perplexity")

    def measure(batch: int) -> Tensor:
        tokens = windows[done : done + batch].to(model.device)
        return next_token_losses(model.module(input_ids=tokens, use_cache=False).logits, tokens).cpu()

    with torch.inference_mode():
        while done < len(windows):
            part, batch = halving(
                measure,
                batch,
                model.device,
                f"one window of {windows.shape[1]:,} tokens does not fit into memory with its logits over "
                f"{_vocabulary(model):,} tokens; use shorter windows (--length) or a 16-bit type (--dtype bfloat16)",
            )
            losses.append(part)
            done += len(part)
            meter.report(f"Measuring perplexity: {done} of {len(windows)} windows", done)
    return torch.cat(losses)


def logit_windows(model: Model, length: int) -> int:
    """Return the number of windows of this length whose logits fit easily into memory."""
    return max(1, LOGIT_BYTES[model.device.type] // (length * _vocabulary(model) * 4))


def check_windows(model: Model, windows: Tensor) -> None:
    """Refuse windows that cannot be evaluated.

    Raises:
        CorpusError: no windows, windows longer than the model's context, or tokens that the model does not have.
    """
    if windows.ndim != 2 or windows.shape[0] == 0 or windows.shape[1] < 2:
        raise CorpusError(
            f"there is nothing to evaluate: windows of shape {tuple(windows.shape)}; give at least one window of at "
            "least 2 tokens"
        )
    check_length(model.title, model.longest_window, windows.shape[1])
    vocabulary = _vocabulary(model)
    if int(windows.max()) >= vocabulary or int(windows.min()) < 0:
        raise CorpusError(
            f"the text holds tokens outside the vocabulary of {vocabulary:,} of {model.title}; cut it with the "
            "model's own tokenizer"
        )


def _vocabulary(model: Model) -> int:
    size: int = model.module.config.get_text_config().vocab_size
    return size


def next_token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the loss of each token but a window's first, (windows, length − 1) float32, some tokens at a time."""
    predictions = tokens.shape[1] - 1
    losses = torch.empty(len(tokens), predictions, dtype=torch.float32, device=tokens.device)
    for start in range(0, predictions, SLICE_TOKENS):
        stop = min(start + SLICE_TOKENS, predictions)
        loss = torch.nn.functional.cross_entropy(
            logits[:, start:stop].float().flatten(0, 1),
            tokens[:, start + 1 : stop + 1].flatten(),
            reduction="none",
        )
        losses[:, start:stop] = loss.view(len(tokens), -1)
    return losses


def exp(value: float) -> float:
    """Return e to a power; infinity where that is too large for a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
