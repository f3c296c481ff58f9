"""The fields of a GGUF header: each is taken by the code that understands it, and a file with any other is refused."""

import math
from typing import NoReturn

from trim.errors import ModelError
from trim.models.gguf_header import GgufHeader, Value

# Fields that do not change what the model computes.
IGNORED = ("vocab_size", "tensor_data_layout", "pooling_type", "rope.scaling.finetuned")


class GgufFields:
    """The fields of a header that are named after its architecture, such as "llama.block_count"."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self._prefix = f"{header.architecture}."
        self.remaining = {
            key.removeprefix(self._prefix): value
            for key, value in header.metadata.items()
            if key.startswith(self._prefix)
        }
        self._taken: dict[str, Value] = {}

    def take(self, key: str, default: Value = None) -> Value:
        """Take a field; `default` where the header has none. Equal numbers for all blocks count as one."""
        if key in self.remaining:
            value = self.remaining.pop(key)
            if isinstance(value, tuple) and key != "attention.sliding_window_pattern":
                self.refuse_unless(len(set(value)) == 1, key, value, "one number for all blocks")
                value = value[0]
            self._taken[key] = value
        return self._taken.get(key, default)

    def need(self, key: str) -> Value:
        """Take a field that every file has."""
        if (value := self.take(key)) is None:
            raise ModelError(
                f"{self._header.file} lacks the field {self._prefix}{key}; convert the model again with a current "
                "llama.cpp"
            )
        return value

    def size(self, key: str, default: int | None = None) -> int:
        """Take a whole number above zero; without a `default` every file must have it."""
        value = self.need(key) if default is None else self.take(key, default)
        if not isinstance(value, int) or value < 1:
            raise self._damaged(key, value)
        return value

    def number(self, key: str, default: float = 0.0) -> float:
        """Take a finite number; zero means: not given."""
        value = self.take(key) or default
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self._damaged(key, value)
        return float(value)

    def sliding_blocks(self) -> list[bool]:
        """Return which blocks have a sliding window: listed, or by every how many have none; empty: not given."""
        key = "attention.sliding_window_pattern"
        pattern = self.take(key) or ()
        if isinstance(pattern, tuple):
            return [bool(slides) for slides in pattern]
        every = self.size(key)
        return [(block + 1) % every != 0 for block in range(self.size("block_count"))]

    def _damaged(self, key: str, value: Value) -> ModelError:
        return ModelError(
            f"{self._header.file} is damaged: its field {self._prefix}{key} is {value!r}; download it again"
        )

    def expect(self, key: str, value: Value) -> None:
        """Check a field that may have no other value."""
        found = self.take(key, value)
        self.refuse_unless(found == value, key, found, str(value))

    def refuse_unless(self, holds: bool, key: str, found: Value, computed: str) -> None:
        """Refuse a value unless the condition holds; `computed` is what transformers would compute instead."""
        if not holds:
            raise self._unsupported(
                key, found, f"transformers computes {computed} for {self._header.architecture}"
            )

    def _unsupported(self, key: str, found: Value, why: str) -> ModelError:
        return ModelError(
            f"{self._header.file} has {self._prefix}{key} = {found}, and {why}; load the model's folder with "
            "safetensors instead"
        )

    def refuse(self, key: str, found: Value) -> NoReturn:
        """Refuse a value that has no counterpart in transformers."""
        raise self._unsupported(
            key, found, f"transformers has no such setting for {self._header.architecture}"
        )

    def require_all_taken(self) -> None:
        """Refuse what is left; zero means: not used."""
        self.expect("attention.causal", True)
        for key, value in self.remaining.items():
            values = value if isinstance(value, tuple) else (value,)
            if key not in IGNORED and any(values):
                self.refuse(key, value)
