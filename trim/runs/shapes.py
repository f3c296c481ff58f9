"""The shapes of the JSON files of runs: types, ranges and lengths, checked whenever they are read.

The shape of a file has the name of the file; that of a class has the name of the class, with "Json" at the end.
"""

import datetime
import re
from typing import Annotated, Literal, NotRequired, TypedDict

from trim.runs.fields import Limits

MAX_NAME_LENGTH, MAX_NOTE_LENGTH = 120, 4000


class _Times:
    """Times in ISO 8601 that can be shown in any zone."""

    def __contains__(self, value: object) -> bool:
        try:
            return 1970 < datetime.datetime.fromisoformat(str(value)).year < 9999
        except ValueError:
            return False

    def __str__(self) -> str:
        return "a time in ISO 8601"


Share = Annotated[float, Limits(0, 1)]
Count = Annotated[int, Limits(0)]
Size = Annotated[int, Limits(1, 2**31 - 1)]
# JSON has no infinity, so it is stored by Python's name, which `float` reads.
Number = float | Literal["inf", "-inf"]
Time = Annotated[str, _Times()]
Name = Annotated[str, Limits(most=MAX_NAME_LENGTH)]
Word = Annotated[str, re.compile(r"[\w.: -]{1,60}")]
BlockIndex = Annotated[str, re.compile(r"0|[1-9][0-9]{0,3}")]
LayerPath = Annotated[str, re.compile(r"\w{1,60}(\.\w{1,60}){0,8}")]
LayerName = Annotated[str, re.compile(r"(0|[1-9][0-9]{0,3})(\.\w{1,60}){1,8}")]


class HeadLayoutJson(TypedDict):
    """The attention heads of the model."""

    query: Size
    key_value: Size
    size: Size


class RowPartJson(TypedDict):
    """Rows of one kind in a layer."""

    name: Word
    rows: Size
    starts: list[Count]


class StructureJson(TypedDict):
    """Facts about the blocks of the model."""

    dense: list[Annotated[str, Limits(most=MAX_NAME_LENGTH)]]
    parts: dict[LayerPath, list[RowPartJson]]


class RecordHead(TypedDict):
    """The head of the file that makes a folder a run, a recovery or a sweep."""

    schema: int
    name: NotRequired[Name]
    created: Time
    fingerprint: str


class Config(RecordHead):
    """`config.json`; "heads" where the model's configuration has them, "structure" where its blocks have any."""

    kind: Literal["model", "layer"]
    heads: NotRequired[HeadLayoutJson]
    structure: NotRequired[StructureJson]
    settings: dict


class BlockEntry(TypedDict):
    """A complete block in `manifest.json`.

    "propagated" holds the batches in which its outputs were passed on; "tuned" is the error of its output on the
    windows held out, before and after tuning.
    """

    file: str
    bytes: Count
    sha256: NotRequired[str]
    layers: list[LayerName]
    propagated: NotRequired[list[list[int]]]
    dense_propagated: NotRequired[list[list[int]]]
    tuned: NotRequired[list[float]]


class Manifest(TypedDict):
    """`manifest.json`; "model_files" are the sha256 of the files that the run reads."""

    complete: bool
    blocks: dict[BlockIndex, BlockEntry]
    model_files: NotRequired[dict[str, str]]


class Notes(TypedDict, total=False):
    """`notes.json`."""

    name: Name
    note: Annotated[str, Limits(most=MAX_NOTE_LENGTH)]


class BudgetsJson(TypedDict, total=False):
    """`budgets.json`: the method, and the sparsity of each layer before and after the target and the cap."""

    method: str
    sparsity: Share
    totals: dict[LayerName, Count]
    layers: dict[LayerName, Share]
    requested: dict[LayerName, float]
    clipped: list[LayerName]


class Realised(TypedDict):
    """The requested and the realised sparsity."""

    requested: Share
    realised: Share


class Weights(TypedDict):
    """The number of pruned weights, and of all weights."""

    pruned: Count
    of: Count


class ExpertCounts(TypedDict):
    """The number of layers of experts, and of the tokens that they received."""

    layers: Count
    fewest_tokens: Count
    most_tokens: Count
    too_few_tokens: Count


class PerplexityEntry(TypedDict):
    """A perplexity, and its text."""

    corpus: str
    whole: NotRequired[bool]
    perplexity: Annotated[float, Limits(1)] | Literal["nan", "inf"]
    windows: Count
    length: Count
    tokens_sha256: str
    bos: NotRequired[bool | None]
    dtype: NotRequired[str]


class Continuation(TypedDict):
    """One prompt, continued by several models."""

    prompt: str
    new_tokens: NotRequired[Count]
    texts: dict[str, str]


class Metrics(TypedDict, total=False):
    """`metrics.json`."""

    sparsity: Realised
    layer_sparsity: Realised
    weights: Weights
    seconds: Annotated[float, Limits(0)]
    experts: ExpertCounts
    perplexities: list[PerplexityEntry]
    dense_perplexities: list[PerplexityEntry]
    uniform_perplexities: list[PerplexityEntry]
    continuations: list[Continuation]


class SearchRecordJson(TypedDict):
    """A `SearchRecord` without its arrays."""

    learning_rate: float | None
    best_iteration: Count
    tried: list[tuple[float, Number]]
    layer_quality: Number
    uniform_quality: Number
    rates: Size
    steps: Size
    kept_steps: Size


class LayerRecordJson(TypedDict):
    """A `LayerRecord` without its name and its arrays."""

    columns: Size
    rows: Size
    budget: Share
    allocation: Word
    score: Word
    vectors: Count
    quality_measure: Word
    uniform_quality: Number
    realised_quality: Number
    error_left: NotRequired[Number]
    kept: NotRequired[Count]
    tokens: NotRequired[Count]
    search: NotRequired[SearchRecordJson]


class BlockMetadata(TypedDict):
    """The metadata of a block's file."""

    layers: dict[LayerName, LayerRecordJson]
