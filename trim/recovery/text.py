"""The text of a recovery: windows of the calibration text, a part held out, and windows that the dense model writes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trim.errors import CorpusError

WINDOWS_PER_HELD_OUT = 8
MAX_HELD_OUT_TOKENS = {"cpu": 1024, "cuda": 16384}  # so that measuring them takes little time
NGRAM_TOKENS = 16  # windows that have an n-gram of this length in common share text


@dataclass(frozen=True, eq=False)
class RecoveryText:
    """The text of the training, and the text held out.

    Attributes:
        training: (windows, length) int64, of the calibration text.
        held_out: (windows, length) int64, of the same text; shares nothing with `training`.
        sampled: (windows, length) int64, written by the dense model; may be none.
    """

    training: Tensor
    held_out: Tensor
    sampled: Tensor

    @classmethod
    def split(cls, windows: Tensor, device: torch.device, seen: Tensor | None = None) -> "RecoveryText":
        """Hold some windows out, and drop those that share text with them: windows of one text may overlap.

        The windows that share least with the calibration text are held out. On that text a pruned model is closer to
        the dense one than on any other, so training would seem to make it worse.

        Args:
            windows: (windows, length) int64.
            device: limits the number of held-out windows.
            seen: (any, any) int64, the windows that the model was pruned on; None: not known.

        Raises:
            CorpusError: nothing is left to train on.
        """
        count, length = windows.shape
        ngram = min(NGRAM_TOKENS, max(2, length // 2))
        if seen is not None and seen.shape[1] >= ngram:
            share = torch.isin(_hashes(windows, ngram), _hashes(seen, ngram)).double().mean(1)
            windows = windows[share.argsort(stable=True)]
        most = max(1, MAX_HELD_OUT_TOKENS[device.type] // length)
        held = windows[: min(max(1, count // WINDOWS_PER_HELD_OUT), most)]
        shared = torch.isin(_hashes(windows[len(held) :], ngram), _hashes(held, ngram)).any(1)
        training = windows[len(held) :][~shared]
        if not len(training):
            raise CorpusError(
                "the text is too short, or repeats itself too much, to hold a part of it out: each window of "
                f"{length:,} tokens shares text with one that is held out; use a longer text (--corpus), shorter "
                "windows (--length), or more of them (--windows)"
            )
        return cls(training, held, windows[:0])

    def step(self, number: int, windows: int, sampled: float, seed: int) -> Tensor:
        """Return the windows of one step, (windows, length); each window is read once an epoch.

        Args:
            number: the step's number, from 0.
            windows: number of windows in one step.
            sampled: the share of them that the dense model wrote.
            seed: decides the order.
        """
        sampled = sampled if len(self.sampled) else 0.0
        before = round(number * windows * sampled)
        written = round((number + 1) * windows * sampled) - before
        return torch.cat(
            [
                _in_turn(self.training, number * windows - before, windows - written, seed),
                _in_turn(self.sampled, before, written, seed + 1),
            ]
        )


def _in_turn(windows: Tensor, start: int, count: int, seed: int) -> Tensor:
    """Return `count` windows from number `start` on, counted over epochs that are shuffled anew."""
    chosen = []
    for number in range(start, start + count):
        epoch, index = divmod(number, len(windows))
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        chosen.append(int(torch.randperm(len(windows), generator=generator)[index]))
    return windows[chosen]


def _hashes(windows: Tensor, ngram: int) -> Tensor:
    """Hash every n-gram of each window, (windows, length − n + 1) int64."""
    total = torch.zeros_like(windows[:, ngram - 1 :])
    for offset in range(ngram):  # products wrap around, as hashes may
        total = total * 6364136223846793005 + windows[:, offset : windows.shape[1] - ngram + 1 + offset] + 1
    return total
