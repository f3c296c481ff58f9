"""Sample text from a model at temperature 1, many windows at a time."""

import time

import torch
from torch import Tensor

from trim.devices import available_bytes, halving
from trim.errors import NonFiniteError
from trim.models.loaded import Model
from trim.progress import Progress, ProgressListener

PIECE_TOKENS = 256  # the most tokens that are sampled in a row; several such pieces fill a window
PROMPT_TOKENS = 16  # of the calibration text, which every other piece continues; the others begin as texts do
_MAX_PIECES = {"cpu": 32, "cuda": 2048}  # pieces that are written at once
_FREE = -1  # marks tokens that the model chooses
_MEMORY_SHARE = 0.4  # the share of the free memory for the keys and values of all pieces


def _pieces_at_once(model: Model, length: int) -> int:
    """Return the number of pieces that fit into memory at once, a multiple of those in a window of `length` tokens."""
    config = model.module.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", 1)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_window, tokens = _pieces(length)
    cached = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize * tokens
    logits = 3 * 4 * config.vocab_size
    fit = int(_MEMORY_SHARE * available_bytes(model.device) / (cached + logits))
    most = max(1, min(fit, _MAX_PIECES[model.device.type]))
    return max(per_window, most // per_window * per_window)


def sample_text(
    model: Model, prompts: Tensor, wanted: int | None, seconds: float, seed: int, report: ProgressListener
) -> Tensor:
    """Sample windows, round after round.

    Args:
        model: the dense model.
        prompts: (windows, length) int64 of the calibration text.
        wanted: the number of windows; None: those of all rounds that end within `seconds`, at least one.
        seconds: the time that the rounds may take.
        seed: the seed of the draws.
        report: called before each round.

    Returns:
        (windows, length) int64 on the CPU.

    Raises:
        The errors of `sample_windows`.
    """
    at_once = _pieces_at_once(model, prompts.shape[1])
    begin = time.monotonic()
    windows: list[Tensor] = []
    while True:
        count, spent = sum(map(len, windows)), time.monotonic() - begin
        # A further round takes as long as the previous ones.
        done = count / wanted if wanted else min(spent * (1 + 1 / max(1, len(windows))) / seconds, 1.0)
        if done >= 1 and windows:
            return torch.cat(windows)[:wanted]
        report(Progress(f"The dense model writes: {count:,} windows so far", done, 1.0))
        windows.append(sample_windows(model, prompts, at_once, seed * 100_003 + len(windows)))


def sample_windows(model: Model, prompts: Tensor, pieces: int, seed: int) -> Tensor:
    """Sample windows; each consists of a few pieces in a row, as texts follow each other in training.

    Args:
        model: the dense model.
        prompts: (windows, length) int64 of the calibration text; sets the length of windows.
        pieces: number of pieces, a multiple of those in a window.
        seed: the seed of the draws.

    Returns:
        (windows, length) int64 on the CPU.

    Raises:
        NonFiniteError: the model computes NaN.
        NotEnoughMemoryError: a single piece does not fit.
    """
    length = prompts.shape[1]
    per_window, size = _pieces(length)
    generator = torch.Generator(model.device).manual_seed(seed)
    prompt_generator = torch.Generator().manual_seed(seed)
    prompt_tokens = min(PROMPT_TOKENS, max(1, size // 2))
    rows = torch.randint(0, len(prompts), (pieces,), generator=prompt_generator)
    starts = torch.randint(0, length - prompt_tokens + 1, (pieces,), generator=prompt_generator)
    begin = prompts[rows[:, None], starts[:, None] + torch.arange(prompt_tokens)]
    if (text_start := _text_start(model)) is not None:  # every other piece begins as texts do
        begin[::2, 0], begin[::2, 1:] = text_start, _FREE
    return _sample_rows(model, begin, size, generator).view(-1, per_window * size)[:, :length]


def _pieces(length: int) -> tuple[int, int]:
    """Return the number of pieces in a window, and the tokens of each; the window may cut the last one off."""
    count = -(-length // PIECE_TOKENS)
    return count, -(-length // count)


def _text_start(model: Model) -> int | None:
    """Return the token that begins texts, or else the one that ends them; None: the model has neither."""
    tokenizer, config = model.tokenizer, model.module.config.get_text_config()
    size = config.vocab_size
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, config.eos_token_id):
        if isinstance(token, int) and 0 <= token < size:
            return token
    return None


def _sample_rows(model: Model, begin: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Continue all rows to `length` tokens, as many at once as fit into memory."""
    done: list[Tensor] = []
    batch = len(begin)
    while (count := sum(map(len, done))) < len(begin):

        def write(batch: int, count: int = count) -> Tensor:
            part = begin[count : count + batch].to(model.device)
            return _sample_batch(model, part, length, generator).cpu()

        part, batch = halving(
            write,
            batch,
            model.device,
            f"one text of {length:,} tokens does not fit into memory while {model.title} writes it; go without text "
            "that it writes itself (--sampled 0)",
        )
        done.append(part)
    return torch.cat(done)


@torch.inference_mode()
def _sample_batch(model: Model, begin: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Sample rows of `length` tokens; the tokens of `begin` (rows, prompt) are given where they are not `_FREE`."""
    last, cache = begin[:, :1], None
    tokens = [last]
    finite = torch.ones((), dtype=torch.bool, device=begin.device)
    for position in range(1, length):
        output = model.module(input_ids=last, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        p = output.logits[:, -1].float().softmax(-1)
        finite &= p.isfinite().all()
        # With u uniform, p / −log u is largest at token i with probability p_i.
        last = p.div_(torch.empty_like(p).exponential_(generator=generator)).argmax(-1, keepdim=True)
        if position < begin.shape[1]:
            given = begin[:, position : position + 1]
            last = torch.where(given == _FREE, last, given)
        tokens.append(last)
    if not bool(finite):
        raise NonFiniteError(
            f"{model.title} computes NaN or infinity while it writes; compute in a wider type (--dtype float32), or "
            "check the checkpoint"
        )
    return torch.cat(tokens, 1)
