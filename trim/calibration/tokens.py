"""Tokenize a text piece by piece, with the result of tokenizing it at once."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trim.calibration.text_files import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIECE_CHARACTERS = 2**17  # that are tokenized at once
LEAD_CHARACTERS = 256  # before a piece that are tokenized with it, so that its first tokens are right
UNSETTLED_TOKENS = 64  # at the end of a piece that the text after it may change


def window_start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Find the beginning-of-text token that a tokenizer adds; empty where it adds none."""
    begin, _ = _special(tokenizer)
    return begin if begin == [tokenizer.bos_token_id] else []


def _special(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """Return the tokens that are added before and after a text."""
    added, plain = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (True, False))
    for begin in range(len(added) - len(plain) + 1):
        if added[begin : begin + len(plain)] == plain:
            return added[:begin], added[begin + len(plain) :]
    return [], []


def tokens_of(
    text: Text,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    special: bool = True,
    limit: int | None = None,
    step: Callable[[int, int], None] = lambda characters, tokens: None,
) -> Tensor:
    """Tokenize a text piece by piece: a tokenizer needs a hundred times the memory of its text.

    Each piece is tokenized together with some text before it, and its last tokens are left to the next piece, so that
    the result is the same as for the whole text at once.

    Args:
        text: the text.
        tokenizer: the model's tokenizer.
        special: whether to add the tokens that the tokenizer puts before and after a text.
        limit: how many tokens suffice; None: all are needed.
        step: called after each piece with the number of characters read, and of tokens found, so far.
    """
    before, after = _special(tokenizer) if special else ([], [])
    found, lead = [torch.tensor(before, dtype=torch.int64)], 0
    count, pending, characters = len(before), "", 0
    for piece, last in _blocks(text):
        pending += piece
        characters += len(piece)
        # verbose=False: it would warn that the text is longer than the model can read at once
        encoded = tokenizer(
            pending, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False
        )
        ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
        spans = torch.tensor(encoded["offset_mapping"] if tokenizer.is_fast else [], dtype=torch.int64).view(
            -1, 2
        )
        first = int((spans[:, 0] >= lead).byte().argmax()) if lead else 0
        if last:
            found.append(ids[first:])
            break
        # Cut only between tokens that do not share a character.
        borders = (spans[:-1, 1] <= spans[1:, 0]).nonzero()[:, 0] + 1
        borders = borders[(borders > first) & (borders <= len(ids) - UNSETTLED_TOKENS)]
        if len(borders) == 0:
            continue
        found.append(ids[first : int(borders[-1])])
        count += len(found[-1])
        step(characters, count)
        if limit is not None and count >= limit:
            break
        border = int(spans[borders[-1], 0])
        pending, lead = pending[max(border - LEAD_CHARACTERS, 0) :], min(border, LEAD_CHARACTERS)
    return torch.cat([*found, torch.tensor(after, dtype=torch.int64)])[:limit]


def _blocks(text: Text) -> Iterator[tuple[str, bool]]:
    """Yield the text in blocks of equal size, and whether each is the last."""
    pending = ""
    for piece in text.pieces():
        pending += piece
        offset = 0
        while len(pending) - offset > PIECE_CHARACTERS:
            yield pending[offset : offset + PIECE_CHARACTERS], False
            offset += PIECE_CHARACTERS
        pending = pending[offset:]
    yield pending, True
