"""Settings of an evaluation or a continuation."""

from dataclasses import dataclass
from pathlib import Path

from trim.errors import CorpusError, SettingsError
from trim.names import CORPORA, absolute, one_line
from trim.seeds import require_seed


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        new_tokens: the maximal number of new tokens.
        temperature: 0: always the most probable token; above 0 tokens are sampled, with more variety the higher it is.
        seed: the seed of the sampling.

    Raises:
        SettingsError: `new_tokens` is below 1, the temperature below 0, or the seed is invalid.
    """

    new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.new_tokens < 1:
            raise SettingsError(f"write at least one token, not {self.new_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise SettingsError(f"the temperature must be 0 (greedy) or above, not {self.temperature:g}")
        require_seed(self.seed)


@dataclass(frozen=True)
class EvaluationText:
    """A text on which perplexity is measured.

    Attributes:
        corpus: "demo", "wikitext2", "c4", or a file.
        windows: number of windows, from the beginning; None: all.
        length: tokens per window; None: 2,048, or the model's context where that is shorter.
        whole: whether to read all of a file instead of its evaluation part, for files of evaluation text only.
        bos: whether to begin each window with the tokenizer's beginning-of-text token, if it adds one.
    """

    corpus: str = "demo"
    windows: int | None = None
    length: int | None = None
    whole: bool = False
    bos: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "corpus", absolute(self.corpus, reserved=CORPORA))
        if self.windows is not None and self.windows < 1:
            raise CorpusError(f"evaluate at least one window, not {self.windows}")
        if self.length is not None and self.length < 2:
            raise CorpusError(f"a window has at least 2 tokens, not {self.length}")

    @property
    def title(self) -> str:
        """Return the text's name in a table."""
        return one_line(Path(self.corpus).name, 40)
