"""Windows of tokens that a model reads from a text. Every window is full: there is no padding to count."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trim.calibration.text_files import FILE_TYPES, Text, file_text
from trim.calibration.texts import C4_EVALUATION_DOCUMENTS, c4_documents, demo_text, wikitext_text
from trim.errors import CorpusError
from trim.names import CORPORA, closest_matches, local_path, one_line
from trim.progress import Meter, Progress, ProgressListener

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

SPLITS = ("calibration", "evaluation", "whole")
# Above this, calibration windows are drawn by their place in the text, and only there are tokens cut.
MAX_WHOLE_CHARACTERS = 16 * 2**20
# Above this, all evaluation windows of a text are more than a model can read in a day.
MAX_EVALUATION_CHARACTERS = 256 * 2**20
PIECE_CHARACTERS = 2**17
LEAD_CHARACTERS = 256
UNSETTLED_TOKENS = 64
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

    Where the tokenizer begins a text with a beginning-of-text token (BOS), each window begins with it; it takes the
    place of one token. Models that were trained with it, Gemma among them, are useless without.

    Calibration windows start at random places of the text, and for C4, as the methods' authors do, at a random place
    of a random document that is longer than the window. Of a text of more than 16 Mi characters the places are drawn
    by characters, not by tokens, and tokens are cut only there: memory and time do not grow with the text.

    Evaluation windows follow each other from the beginning without overlap; the tail that does not fill a window is
    dropped. A user's file that holds nothing but text for evaluation is read as a whole.

    Calibration and evaluation never share text. demo: two thirds and one third of the years. wikitext2: train and
    test. c4: a train and a validation shard (of this its first 1,100 documents). A user's file: about the first four
    fifths and the last fifth, by whole documents where there are several.

    Args:
        source: "demo", "wikitext2", "c4", or a file: .txt, .jsonl (field "text") or .parquet (column "text").
        tokenizer: the model's.
        split: "calibration", "evaluation", or "whole": all of a user's file, cut as an evaluation text.
        windows: how many; None: all that the evaluation text holds.
        length: tokens per window.
        seed: decides where calibration windows start.
        bos: begin each window with the tokenizer's BOS token, where it has one that it adds. Without, as in the
            published protocols, the text begins with it once, before it is cut into windows.
        progress: called at each step, and after each piece of the text.

    Returns:
        (windows, length) int64.

    Raises:
        CorpusError: no such text or split, it cannot be had or read, or it is too short for the windows asked of it.
    """
    if split not in SPLITS:
        raise CorpusError(f"a text has the parts {', '.join(SPLITS)}, not {split!r}")
    if length < 2 or (windows is not None and windows < 1):
        raise CorpusError(f"ask for at least one window of at least 2 tokens, not {windows} of {length}")
    if windows is None and split == "calibration":
        raise CorpusError("say how many calibration windows to draw")
    if split == "whole" and str(source) in CORPORA:
        raise CorpusError(
            f"{source} has a part for evaluation; only a file of your own can be read as a whole"
        )
    report = progress or (lambda step: None)
    title = f"Cutting {CORPORA.get(str(source), one_line(Path(source).name))} into tokens"
    drawn = windows if split == "calibration" else None  # at random places; None: one after the other
    generator = torch.Generator().manual_seed(seed)
    begin = window_start(tokenizer) if bos else []
    own = length - len(begin)  # tokens of the text in each window
    if source == "c4" and drawn is not None:
        rows, meter = c4_documents(split, report), Meter(report, of=drawn)
        cut = _from_documents(
            rows, tokenizer, drawn, own, not begin, generator, lambda done: meter.report(title, done)
        )
        return _prepended(begin, cut)
    text = _text(source, split, report)
    report(Progress(title))
    what = ("" if split == "whole" else f"the {split} part of ") + repr(one_line(str(source)))
    if drawn is not None and len(text) > MAX_WHOLE_CHARACTERS:
        meter = Meter(report, of=drawn)
        placed = _from_places(text, tokenizer, drawn, own, generator, lambda done: meter.report(title, done))
        if placed is None:
            raise CorpusError(_too_short(what, "too few", length))
        return _prepended(begin, placed)
    if windows is None and len(text) > MAX_EVALUATION_CHARACTERS:
        raise CorpusError(
            f"{what} has {len(text):,} characters, too many to cut all of it into windows; say how many windows to read"
        )
    most = own * windows if drawn is None and windows is not None else None
    meter = Meter(report, of=most or len(text))
    tokens = _tokens(
        text,
        tokenizer,
        special=not begin,
        most=most,
        step=lambda characters, tokens: meter.report(title, tokens if most else characters),
    )
    if len(tokens) < own:
        raise CorpusError(_too_short(what, f"{len(tokens):,}", length))
    if drawn is None:
        cut = tokens[: len(tokens) // own * own].view(-1, own)
        if windows is not None and windows > len(cut):
            raise CorpusError(
                f"{what} fills {len(cut):,} windows of {length:,} tokens, not {windows:,}; ask for fewer or shorter "
                "ones"
            )
        return _prepended(begin, cut[:windows])
    starts = torch.randint(0, len(tokens) - own + 1, (drawn,), generator=generator)
    return _prepended(begin, tokens[starts[:, None] + torch.arange(own)])


def check_length(title: str, longest: int | None, length: int) -> None:
    """Refuse windows that are longer than a model reads at once.

    Args:
        title: the model's name.
        longest: how many tokens it reads at most; None: its configuration does not say.
        length: tokens in a window.

    Raises:
        CorpusError: they are longer.
    """
    if longest and length > longest:
        raise CorpusError(
            f"{title} reads at most {longest:,} tokens at once, not {length:,}; use shorter windows "
            f"(--length {longest})"
        )


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


def _prepended(begin: list[int], windows: Tensor) -> Tensor:
    return torch.cat([torch.tensor(begin, dtype=torch.int64).expand(len(windows), -1), windows], dim=1)


def _too_short(what: str, tokens: str, length: int) -> str:
    return f"{what} holds {tokens} tokens, less than one window of {length:,}; use shorter windows or a longer text"


def _text(source: str | Path, split: str, report: ProgressListener) -> Text:
    if source == "demo":
        return Text.of(demo_text(split))
    if source == "wikitext2":
        return Text.of(wikitext_text(split, report))
    if source == "c4":
        return Text.of(" ".join(c4_documents(split, report)[:C4_EVALUATION_DOCUMENTS]["text"]))
    name = str(source)
    path = local_path(name)
    if path is not None:
        return file_text(path, split)
    if name.lower().endswith(FILE_TYPES) or isinstance(source, Path):
        raise CorpusError(f"there is no file {one_line(name)!r}; check the path")
    raise CorpusError(
        f"there is no text named {one_line(name)!r}; closest names: {closest_matches(name, CORPORA)}; or give the path "
        f"of a {', '.join(FILE_TYPES)} file"
    )


def _tokens(
    text: Text,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    special: bool = True,
    most: int | None = None,
    step: Callable[[int, int], None] = lambda characters, tokens: None,
) -> Tensor:
    """Return the tokens of a text, cut by pieces: a tokenizer needs a hundred times the memory of what it cuts.

    Each piece is cut together with a lead of the text before it, and its last tokens are left to the next piece, so
    that the tokens are those of the whole text cut at once.

    Args:
        text: to cut.
        tokenizer: cuts it.
        special: with the tokens that the tokenizer adds before and after a text.
        most: how many tokens suffice.
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
        if most is not None and count >= most:
            break
        border = int(spans[borders[-1], 0])
        waiting, lead = waiting[max(border - LEAD_CHARACTERS, 0) :], min(border, LEAD_CHARACTERS)
    return torch.cat([*found, torch.tensor(after, dtype=torch.int64)])[:most]


def _blocks(text: Text) -> Iterator[tuple[str, bool]]:
    """Yield the text in blocks of equal size, and whether each is the last."""
    waiting = ""
    for piece in text.pieces():
        waiting += piece
        place = 0
        while len(waiting) - place > PIECE_CHARACTERS:
            yield waiting[place : place + PIECE_CHARACTERS], False
            place += PIECE_CHARACTERS
        waiting = waiting[place:]
    yield waiting, True


def _from_places(
    text: Text,
    tokenizer: "PreTrainedTokenizerBase",
    windows: int,
    length: int,
    generator: torch.Generator,
    step: Callable[[int], None],
) -> Tensor | None:
    """Draw windows that start near random characters of a text; None where it has too few tokens."""
    size = CHARACTERS_PER_TOKEN * length
    places = torch.rand(windows, generator=generator, dtype=torch.float64)
    cut: dict[int, Tensor] = {}
    while len(cut) < windows:
        missing = [number for number in range(windows) if number not in cut]
        size = min(size, len(text))
        begins = [int(places[number] * (len(text) - size)) for number in missing]
        for number, stretch in zip(missing, text.stretches(begins, size), strict=True):
            space = re.search(r"\s", stretch[:LEAD_CHARACTERS])  # a window does not begin within a word
            tokens = _tokens(
                Text.of(stretch[space.end() if space else 0 :]), tokenizer, special=False, most=length
            )
            if len(tokens) == length:
                cut[number] = tokens
                step(len(cut))
        if len(cut) < windows and size == len(text):
            return None
        size *= 8  # text of few tokens, such as a table of blanks
    return torch.stack([cut[number] for number in range(windows)])


def _from_documents(
    rows: "datasets.Dataset",
    tokenizer: "PreTrainedTokenizerBase",
    windows: int,
    length: int,
    special: bool,
    generator: torch.Generator,
    step: Callable[[int], None],
) -> Tensor:
    """Cut a random window of random documents longer than it; none is taken twice while others last.

    Args:
        rows: with a column "text".
        tokenizer: cuts the documents.
        windows: how many.
        length: tokens of a window.
        special: with the tokens that the tokenizer adds before and after a document.
        generator: chooses the documents and the places.
        step: called with how many long enough documents were found.
    """
    import pyarrow.compute

    # No token is shorter than a byte, so a text without enough bytes need not be cut into tokens.
    sizes = torch.tensor(pyarrow.compute.binary_length(rows.data.column("text")).to_numpy())
    candidates = (sizes >= length).nonzero()[:, 0]
    candidates = candidates[torch.randperm(len(candidates), generator=generator)]
    long_enough: list[Tensor] = []
    for index in candidates.tolist():
        if len(long_enough) == windows:
            break
        tokens = _tokens(Text.of(rows[index]["text"]), tokenizer, special=special)
        if len(tokens) > length:
            long_enough.append(tokens)
            step(len(long_enough))
    if not long_enough:
        raise CorpusError(
            f"none of the {len(rows):,} documents is longer than a window of {length:,} tokens; use shorter windows"
        )
    chosen = []
    for number in range(windows):
        tokens = long_enough[number % len(long_enough)]
        start = int(torch.randint(0, len(tokens) - length, (1,), generator=generator))
        chosen.append(tokens[start : start + length])
    return torch.stack(chosen)
