"""The calibration text: its tokens, its padding, and the tokens whose input vectors are kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trim.cache import text_sha256
from trim.errors import SettingsError
from trim.methods.choices import INPUT_VECTORS
from trim.seeds import require_seed

_HELD_OUT = 1 / 8  # of the windows


@dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration text.

    Attributes:
        tokens: (windows, length) int64.
        mask: (windows, length) bool, False where there is padding; None: all tokens are real.
        positions: (windows, V) int64, ascending: the tokens whose input vectors are kept.
        ranks: (windows, length) int64, the order in which a window's tokens are chosen. `positions` have a rank below
            V; an expert keeps the V lowest ranks among its own tokens.
    """

    tokens: Tensor = field(repr=False)
    mask: Tensor | None = field(repr=False)
    positions: Tensor = field(repr=False)
    ranks: Tensor = field(repr=False)

    @classmethod
    def of(
        cls,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        vectors_per_sequence: int = 2,
        input_vectors: str = INPUT_VECTORS[0],
        seed: int = 0,
    ) -> "Calibration":
        """Choose distinct positions among the real tokens of each window: random ones, or the last.

        Raises:
            SettingsError: a window has fewer real tokens than `vectors_per_sequence`, `input_vectors` is
                unknown, or the seed is invalid.
        """
        if input_vectors not in INPUT_VECTORS:
            raise SettingsError(
                f"input_vectors must be one of {', '.join(INPUT_VECTORS)}, not {input_vectors!r}"
            )
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise SettingsError(
                f"windows must be (windows, length) tokens and not empty, not {tuple(tokens.shape)}"
            )
        if mask is not None and (mask.shape != tokens.shape or mask.dtype != torch.bool):
            raise SettingsError(f"the mask must be bool of shape {tuple(tokens.shape)}")
        require_seed(seed)
        if input_vectors == "random":
            draws = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
        else:
            draws = torch.arange(tokens.shape[1], 0.0, -1).repeat(len(tokens), 1)
        real = tokens.shape[1]
        if mask is not None:
            draws, real = draws.masked_fill(~mask, torch.inf), int(mask.sum(dim=1).min())
        if not 1 <= vectors_per_sequence <= real:
            raise SettingsError(
                f"between 1 and {real} input vectors can be kept of a window of {real} tokens, "
                f"not {vectors_per_sequence}"
            )
        order = draws.argsort(dim=1)
        positions = order[:, :vectors_per_sequence].sort(dim=1).values
        return cls(
            tokens, None if mask is None or bool(mask.all()) else mask, positions, order.argsort(dim=1)
        )

    def first(self, windows: int) -> "Calibration":
        """Return a calibration of the first `windows` windows."""
        mask = None if self.mask is None else self.mask[:windows]
        return Calibration(self.tokens[:windows], mask, self.positions[:windows], self.ranks[:windows])

    @property
    def windows(self) -> int:
        """Return the number of windows."""
        return self.tokens.shape[0]

    @property
    def held_out(self) -> int:
        """Return how many windows, the last ones, are held out to judge changed weights."""
        return max(1, round(_HELD_OUT * self.windows))

    @property
    def length(self) -> int:
        """Tokens per window, padding included."""
        return self.tokens.shape[1]

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        return self.tokens.numel() if self.mask is None else int(self.mask.sum())

    def require_tokens(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        """Require enough tokens to tell how the inputs of layers (D, N) depend on each other.

        Raises:
            SettingsError: the text has fewer tokens than a layer has inputs.
        """
        name, (_, columns) = max(shapes.items(), key=lambda item: item[1][1])
        if self.real_tokens < columns:
            raise SettingsError(
                f"solving needs at least as many tokens as a layer has inputs: {columns:,} for {name}, and the text "
                f"has {self.real_tokens:,}; use more or longer windows (--windows, --length)"
            )

    @property
    def sha256(self) -> str:
        """Return the sha256 of the tokens and the mask."""
        return text_sha256(self.tokens, self.mask)
