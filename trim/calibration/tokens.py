"""The tokens of a text, cut piece by piece as if the whole text were cut at once."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trim.calibration.text_files import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIECE_CHARACTERS = 2**17
LEAD_CHARACTERS = 256
UNSETTLED_TOKENS = 64


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
    """Return the tokens of a text, cut by pieces: a tokenizer needs a hundred times the memory of what it cuts.

    Each piece is cut together with a lead of the text before it, and its last tokens are left to the next piece, so
    that the tokens are those of the whole text cut at once.

    Args:
        text: to cut.
        tokenizer: cuts it.
        special: with the tokens that the tokenizer adds before and after a text.
        limit: how many tokens suffice; None: all are needed.
        step: called after each piece with the characters that were read and the tokens that they gave.
    """
    before, after = _special(tokenizer) if special else ([], [])
    found, lead = [torch.tensor(before, dtype=torch.int64)], 0
    count, waiting, characters = len(before), "", 0
    for piece, last in _blocks(text):
        waiting += piece
        characters += len(piece)
        # verbose: it would warn that the text is longer than the model can read at once
        coded = tokenizer(
            waiting, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False
        )
        ids = torch.tensor(coded["input_ids"], dtype=torch.int64)
        spans = torch.tensor(coded["offset_mapping"] if tokenizer.is_fast else [], dtype=torch.int64).view(
            -1, 2
        )
        first = int((spans[:, 0] >= lead).byte().argmax()) if lead else 0
        if last:
            found.append(ids[first:])
            break
        # A border between two tokens that is one between two characters too.
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
        waiting, lead = waiting[max(border - LEAD_CHARACTERS, 0) :], min(border, LEAD_CHARACTERS)
    return torch.cat([*found, torch.tensor(after, dtype=torch.int64)])[:limit]


def _blocks(text: Text) -> Iterator[tuple[str, bool]]:
    """Yield the text in blocks of equal size, and whether each is the last."""
    waiting = ""
    for piece in text.pieces():
        waiting += piece
        offset = 0
        while len(waiting) - offset > PIECE_CHARACTERS:
            yield waiting[offset : offset + PIECE_CHARACTERS], False
            offset += PIECE_CHARACTERS
        waiting = waiting[offset:]
    yield waiting, True
