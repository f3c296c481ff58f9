"""Cut a text into windows of tokens for a model. Every window is full: there is no padding."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trim.calibration.named_texts import C4_EVALUATION_DOCUMENTS, c4_documents, demo_text, wikitext_text
from trim.calibration.text_files import FILE_TYPES, Text, file_text
from trim.calibration.tokens import LEAD_CHARACTERS, tokens_of, window_start
from trim.errors import CorpusError
from trim.names import CORPORA, closest_matches, local_path, one_line
from trim.progress import Meter, Progress, ProgressListener
from trim.seeds import require_seed

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

SPLITS = ("calibration", "evaluation", "whole")
# Above this, calibration windows are drawn by their place in the text, and only there are tokens cut.
MAX_WHOLE_CHARACTERS = 16 * 2**20
# Above this, all evaluation windows of a text are more than a model can read in a day.
MAX_EVALUATION_CHARACTERS = 256 * 2**20
CHARACTERS_PER_TOKEN = 8


def load_corpus(
    source: str | Path,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    split: str = "calibration",
    windows: int | None = 64,
    length: int = 512,
    seed: int = 0,
    bos: bool = True,
    progress: ProgressListener | None = None,
) -> Tensor:
    """Cut windows of `length` tokens out of a text.

    If the tokenizer begins a text with a beginning-of-text token (BOS), each window begins with it, in place of one
    token. Models that were trained with it, such as Gemma, do not work without it.

    Calibration windows start at random places of the text; in C4, as for the methods' authors, at a random place of a
    random document that is longer than the window. In a text of more than 16 Mi characters the places are drawn by
    characters, and only these places are tokenized: memory and time do not grow with the text.

    Evaluation windows follow each other from the beginning without overlap; the tail that does not fill a window is
    dropped.

    Calibration and evaluation never share text. demo: two thirds and one third of the years. wikitext2: train and
    test. c4: a train shard, and the first 1,100 documents of a validation shard. A user's file: about the first four
    fifths and the last fifth, by whole documents where there are several.

    Args:
        source: "demo", "wikitext2", "c4", or a file: .txt, .jsonl (field "text") or .parquet (column "text").
        tokenizer: the model's.
        split: "calibration", "evaluation", or "whole": all of a user's file, cut as an evaluation text.
        windows: how many; None: all windows of the evaluation text.
        length: tokens per window.
        seed: the seed of the places of calibration windows.
        bos: begin each window with the tokenizer's BOS token, if it adds one. False, as in the published protocols: the
            text begins with it once, before it is cut into windows.
        progress: called at each step, and after each piece of the text.

    Returns:
        (windows, length) int64.

    Raises:
        CorpusError: no such text or split; it cannot be downloaded or read; or it is too short for the windows.
        SettingsError: the seed is negative or too large.
    """
    _check_request(source, split, windows, length)
    require_seed(seed)
    bos_ids = window_start(tokenizer) if bos else []
    report = progress or (lambda step: None)
    cutter = _Cutter(source, split, tokenizer, length, length - len(bos_ids), not bos_ids, report)
    if split == "calibration" and windows is not None:
        bodies = cutter.random_windows(windows, torch.Generator().manual_seed(seed))
    else:
        bodies = cutter.consecutive_windows(windows)
    return torch.cat([torch.tensor(bos_ids, dtype=torch.int64).expand(len(bodies), -1), bodies], dim=1)


def _check_request(source: str | Path, split: str, windows: int | None, length: int) -> None:
    if split not in SPLITS:
        raise CorpusError(f"a text has the parts {', '.join(SPLITS)}, not {split!r}")
    require_windows(windows, length)
    if windows is None and split == "calibration":
        raise CorpusError("give the number of calibration windows to draw")
    if split == "whole" and str(source) in CORPORA:
        raise CorpusError(
            f"{source} has a part for evaluation; only a file of your own can be read as a whole"
        )


@dataclass(frozen=True)
class _Cutter:
    """Cuts one text into windows.

    Attributes:
        source, split: the text, as `load_corpus` takes it.
        tokenizer: cuts it into tokens.
        length: tokens in a window.
        body: tokens of the text in a window, without BOS.
        special: whether to add the tokens that the tokenizer puts before and after a text.
        report: called at each step.
    """

    source: str | Path
    split: str
    tokenizer: "PreTrainedTokenizerBase"
    length: int
    body: int
    special: bool
    report: ProgressListener

    @property
    def title(self) -> str:
        """The title of the progress."""
        return f"Cutting {CORPORA.get(str(self.source), one_line(Path(self.source).name))} into tokens"

    @property
    def what(self) -> str:
        """The text's name in messages."""
        part = "" if self.split == "whole" else f"the {self.split} part of "
        return part + repr(one_line(str(self.source)))

    def random_windows(self, windows: int, generator: torch.Generator) -> Tensor:
        """Cut windows (windows, body) at random places."""
        if self.source == "c4":
            return self._from_documents(c4_documents(self.split, self.report), windows, generator)
        text = self._text()
        if len(text) > MAX_WHOLE_CHARACTERS:
            return self._from_places(text, windows, generator)
        tokens = self._tokens(text, None)
        starts = torch.randint(0, len(tokens) - self.body + 1, (windows,), generator=generator)
        return tokens[starts[:, None] + torch.arange(self.body)]

    def _from_places(self, text: Text, windows: int, generator: torch.Generator) -> Tensor:
        """Draw windows that start near random characters of a text."""
        meter, size = Meter(self.report, of=windows), CHARACTERS_PER_TOKEN * self.body
        places = torch.rand(windows, generator=generator, dtype=torch.float64)
        cut: dict[int, Tensor] = {}
        while len(cut) < windows:
            missing = [number for number in range(windows) if number not in cut]
            size = min(size, len(text))
            begins = [int(places[number] * (len(text) - size)) for number in missing]
            for number, excerpt in zip(missing, text.excerpts(begins, size), strict=True):
                space = re.search(r"\s", excerpt[:LEAD_CHARACTERS])  # a window does not begin within a word
                words = Text.of(excerpt[space.end() if space else 0 :])
                tokens = tokens_of(words, self.tokenizer, special=False, limit=self.body)
                if len(tokens) == self.body:
                    cut[number] = tokens
                    meter.report(self.title, len(cut))
            if len(cut) < windows and size == len(text):
                raise self._too_short("too few")
            size *= 8  # the text has few tokens, such as a table of blanks
        return torch.stack([cut[number] for number in range(windows)])

    def _from_documents(self, rows: "datasets.Dataset", windows: int, generator: torch.Generator) -> Tensor:
        """Cut windows from random documents longer than a window; none is used twice while others are left.

        `rows`: with a column "text".
        """
        import pyarrow.compute

        # No token is shorter than a byte, so a text without enough bytes need not be cut into tokens.
        sizes = torch.tensor(pyarrow.compute.binary_length(rows.data.column("text")).to_numpy())
        candidates = (sizes >= self.body).nonzero()[:, 0]
        candidates = candidates[torch.randperm(len(candidates), generator=generator)]
        meter, long_enough = Meter(self.report, of=windows), list[Tensor]()
        for index in candidates.tolist():
            if len(long_enough) == windows:
                break
            tokens = tokens_of(Text.of(rows[index]["text"]), self.tokenizer, special=self.special)
            if len(tokens) > self.body:
                long_enough.append(tokens)
                meter.report(self.title, len(long_enough))
        if not long_enough:
            raise CorpusError(
                f"none of the {len(rows):,} documents is longer than a window of {self.body:,} tokens; use shorter "
                "windows"
            )
        chosen = []
        for number in range(windows):
            tokens = long_enough[number % len(long_enough)]
            start = int(torch.randint(0, len(tokens) - self.body, (1,), generator=generator))
            chosen.append(tokens[start : start + self.body])
        return torch.stack(chosen)

    def consecutive_windows(self, windows: int | None) -> Tensor:
        """Cut the first windows (windows, body), one after the other; None: all."""
        text = self._text()
        if windows is None and len(text) > MAX_EVALUATION_CHARACTERS:
            raise CorpusError(
                f"{self.what} has {len(text):,} characters, too many to cut all of it into windows; give the "
                "number of windows to read"
            )
        tokens = self._tokens(text, None if windows is None else self.body * windows)
        found = tokens[: len(tokens) // self.body * self.body].view(-1, self.body)
        if windows is not None and windows > len(found):
            raise CorpusError(
                f"{self.what} fills {len(found):,} windows of {self.length:,} tokens, not {windows:,}; use fewer "
                "or shorter ones"
            )
        return found[:windows]

    def _text(self) -> Text:
        text = _text(self.source, self.split, self.report)
        self.report(Progress(self.title))
        return text

    def _tokens(self, text: Text, limit: int | None) -> Tensor:
        """Return the first `limit` tokens (None: all), at least as many as a window needs."""
        meter = Meter(self.report, of=limit or len(text))

        def step(characters: int, tokens: int) -> None:
            meter.report(self.title, tokens if limit else characters)

        tokens = tokens_of(text, self.tokenizer, special=self.special, limit=limit, step=step)
        if len(tokens) < self.body:
            raise self._too_short(f"{len(tokens):,}")
        return tokens

    def _too_short(self, tokens: str) -> CorpusError:
        return CorpusError(
            f"{self.what} holds {tokens} tokens, less than one window of {self.length:,}; use shorter windows or a "
            "longer text"
        )


def check_length(title: str, longest: int | None, length: int) -> None:
    """Require windows that a model can read at once.

    Args:
        title: the model's name.
        longest: the most tokens that it reads at once; None: its configuration does not say.
        length: tokens in a window.

    Raises:
        CorpusError: they are longer.
    """
    if longest and length > longest:
        raise CorpusError(
            f"{title} reads at most {longest:,} tokens at once, not {length:,}; use shorter windows "
            f"(--length {longest})"
        )


def _text(source: str | Path, split: str, report: ProgressListener) -> Text:
    """Open a named text or a user's file."""
    if source == "demo":
        return Text.of(demo_text(split))
    if source == "wikitext2":
        return Text.of(wikitext_text(split, report))
    if source == "c4":
        return Text.of(" ".join(c4_documents(split, report)[:C4_EVALUATION_DOCUMENTS]["text"]))
    return file_text(_text_file(source), split)


def require_text(source: str | Path) -> None:
    """Require a text that exists; nothing is read.

    Raises:
        CorpusError: there is no such text, or it is a file of another kind.
    """
    if str(source) not in CORPORA:
        _text_file(source)


def require_windows(windows: int | None, length: int) -> None:
    """Require a number of windows (None: all), and of tokens in each, that can be cut out of a text.

    Raises:
        CorpusError: there are too few.
    """
    if windows is not None and windows < 1:
        raise CorpusError(f"request at least one window, not {windows}")
    if length < 2:
        raise CorpusError(f"a window has at least 2 tokens, not {length}")


def _text_file(source: str | Path) -> Path:
    """Find a user's text."""
    name = str(source)
    path = local_path(name)
    if path is not None:
        if path.suffix.lower() not in FILE_TYPES or path.is_dir():
            raise CorpusError(
                f"{one_line(path.name)} is not a text that can be read here; give one of {', '.join(FILE_TYPES)}"
            )
        return path
    if name.lower().endswith(FILE_TYPES) or isinstance(source, Path):
        raise CorpusError(f"there is no file {one_line(name)!r}; check the path")
    raise CorpusError(
        f"there is no text named {one_line(name)!r}; closest names: {closest_matches(name, CORPORA)}; or give the path "
        f"of a {', '.join(FILE_TYPES)} file"
    )
