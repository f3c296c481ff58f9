"""Windows of tokens that a model reads from a text. Every window is full: there is no padding to count."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trim.calibration.texts import (
    C4_EVALUATION_DOCUMENTS,
    FILE_TYPES,
    c4_documents,
    demo_text,
    file_text,
    wikitext_text,
)
from trim.errors import CorpusError
from trim.names import CORPORA, local_path, near_names, one_line

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

SPLITS = ("calibration", "evaluation", "whole")


def load_corpus(
    source: str | Path,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    split: str = "calibration",
    windows: int | None = 64,
    length: int = 512,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Tensor:
    """Windows of `length` tokens.

    Calibration windows start at random places of the text, and for C4, as the methods' authors do, at a random place
    of a random document that is longer than the window. Evaluation windows follow each other from the beginning
    without overlap; the tail that does not fill a window is dropped. A user's file that holds nothing but text for
    evaluation is read as a whole.

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
        progress: told in words what is being done.

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
    say = progress or (lambda words: None)
    drawn = windows if split == "calibration" else None  # at random places; None: one after the other
    generator = torch.Generator().manual_seed(seed)
    if source == "c4" and drawn is not None:
        return _from_documents(c4_documents(split, say), tokenizer, drawn, length, generator)
    text = _text(source, split, say)
    say(f"Cutting {CORPORA.get(str(source), one_line(Path(source).name))} into tokens")
    tokens = _tokens(text, tokenizer)
    what = ("" if split == "whole" else f"the {split} part of ") + repr(one_line(str(source)))
    if len(tokens) < length:
        raise CorpusError(
            f"{what} holds {len(tokens):,} tokens, less than one window of {length:,}; use shorter windows or a longer "
            "text"
        )
    if drawn is None:
        whole = tokens[: len(tokens) // length * length].view(-1, length)
        if windows is not None and windows > len(whole):
            raise CorpusError(
                f"{what} fills {len(whole):,} windows of {length:,} tokens, not {windows:,}; ask for fewer or shorter "
                "ones"
            )
        return whole[:windows]
    starts = torch.randint(0, len(tokens) - length + 1, (drawn,), generator=generator)
    return tokens[starts[:, None] + torch.arange(length)]


def _text(source: str | Path, split: str, say: Callable[[str], None]) -> str:
    if source == "demo":
        return demo_text(split)
    if source == "wikitext2":
        return wikitext_text(split, say)
    if source == "c4":
        return " ".join(c4_documents(split, say)[:C4_EVALUATION_DOCUMENTS]["text"])
    name = str(source)
    path = local_path(name)
    if path is not None:
        return file_text(path, split)
    if name.lower().endswith(FILE_TYPES) or isinstance(source, Path):
        raise CorpusError(f"there is no file {one_line(name)!r}; check the path")
    raise CorpusError(
        f"there is no text named {one_line(name)!r}; near names: {near_names(name, CORPORA)}; or give the path of a "
        f"{', '.join(FILE_TYPES)} file"
    )


def _tokens(text: str, tokenizer: "PreTrainedTokenizerBase") -> Tensor:
    # verbose: it would warn that the text is longer than the model can read at once
    return torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.int64)


def _from_documents(
    rows: "datasets.Dataset",
    tokenizer: "PreTrainedTokenizerBase",
    windows: int,
    length: int,
    generator: torch.Generator,
) -> Tensor:
    """A random window of each of some random documents that are longer than it; none is taken twice while others last.

    Args:
        rows: `datasets.Dataset` with a column "text".
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
        tokens = _tokens(rows[index]["text"], tokenizer)
        if len(tokens) > length:
            long_enough.append(tokens)
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
