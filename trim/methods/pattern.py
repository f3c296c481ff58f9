"""n:m patterns: n zeros in every m neighbouring weights of a row."""

import re
from dataclasses import dataclass

from trim.errors import SettingsError


@dataclass(frozen=True)
class Pattern:
    """n zeros in every m neighbouring weights of a row."""

    zeros: int
    group: int

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read "2:4".

        Raises:
            SettingsError: the text is not a pattern.
        """
        match = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text)
        if match is None or not 0 < int(match[1]) < int(match[2]):
            raise SettingsError(
                f'a pattern is n:m with n zeros in every m weights, such as "2:4", not {text!r}'
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """Return "2:4"."""
        return f"{self.zeros}:{self.group}"

    @property
    def sparsity(self) -> float:
        """Return n / m."""
        return self.zeros / self.group

    def count(self, columns: int) -> int:
        """Return how many weights a row of `columns` weights loses; `columns` is a multiple of m."""
        return columns // self.group * self.zeros
