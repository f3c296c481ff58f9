"""The shapes of the JSON files of runs and sweeps: types, ranges and lengths, checked whenever they are read."""

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


class HeadFacts(TypedDict):
    """The attention heads of the model, as `trim.models.heads.HeadLayout` names them."""

    query: Size
    key_value: Size
    size: Size


class PartNumbers(TypedDict):
    """Rows of one kind in a layer: see `trim.row_parts.RowPart`."""

    name: Word
    rows: Size
    starts: list[Count]


class StructureNumbers(TypedDict):
    """Facts of the model's blocks: see `trim.row_parts.Structure`."""

    dense: list[Annotated[str, Limits(most=MAX_NAME_LENGTH)]]
    parts: dict[LayerPath, list[PartNumbers]]


class RecordHead(TypedDict):
    """The head of the file that makes a folder a run, a recovery or a sweep."""

    schema: int
    name: NotRequired[Name]
    created: Time
    fingerprint: str


class Config(RecordHead):
    """`config.json`; "heads" where the model's configuration has them, "structure" where its blocks have any."""

    kind: Literal["model", "layer"]
    heads: NotRequired[HeadFacts]
    structure: NotRequired[StructureNumbers]
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


class BudgetFacts(TypedDict, total=False):
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


class ExpertFacts(TypedDict):
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
    experts: ExpertFacts
    perplexities: list[PerplexityEntry]
    dense_perplexities: list[PerplexityEntry]
    uniform_perplexities: list[PerplexityEntry]
    continuations: list[Continuation]


Loss = float | Literal["nan", "inf", "-inf"]


class MeasuredText(TypedDict):
    """The text of a diagnosis, and the type in which the model computed."""

    corpus: str
    windows: Size
    length: Size
    tokens_sha256: str
    dtype: str


class LayerCostNumbers(TypedDict):
    """The cost of one layer pruned alone, as `LayerCost`."""

    loss: Loss
    standard_error: Loss
    predicted: Loss


class LayerCostFacts(TypedDict):
    """The costs of layers, measured on one text."""

    text: MeasuredText
    dense_loss: Loss
    layers: dict[LayerName, LayerCostNumbers]


class BlockErrorNumbers(TypedDict):
    """The error after one block, as `BlockError`."""

    block: Count
    error: Loss
    low: Loss
    high: Loss
    cosine: Loss
    carried: Loss
    added: Loss
    layers: dict[LayerName, Loss]


class BlockErrorFacts(TypedDict):
    """The errors after all blocks, measured on one text."""

    text: MeasuredText
    blocks: list[BlockErrorNumbers]


class TokenFacts(TypedDict):
    """A text token by token: its pieces by window, and from the second piece on their losses under both models."""

    text: MeasuredText
    pieces: list[list[str]]
    dense: list[list[Loss]]
    pruned: list[list[Loss]]


class Diagnoses(TypedDict, total=False):
    """`diagnoses.json`."""

    layers: LayerCostFacts
    blocks: BlockErrorFacts
    tokens: TokenFacts


Drawn = Literal["vectors", "windows", "texts"]


class SignalFacts(TypedDict):
    """The row sparsities that TRIM learned in several draws, as `RowSignal`; a single row of Gini if all are equal."""

    drawn: Drawn
    vectors: Size
    counts: Annotated[list[list[Count]], Limits(2)]
    gini: Annotated[list[list[Loss]], Limits(1)]
    rates: list[float | None]
    titles: list[Annotated[str, Limits(most=MAX_NAME_LENGTH)]]


class AgreementFacts(TypedDict):
    """The agreement of a layer's mask with that of another method, as `MaskAgreement`."""

    score: Word
    allocation: Word
    whole: Share
    expected: Share
    by_row: list[Share]
    by_column: list[Share]


class TargetFacts(TypedDict):
    """The number of weights that each row of a layer loses at several targets."""

    method: Word
    targets: Annotated[list[Share], Limits(1)]
    counts: list[list[Count]]


class LayerDiagnoses(TypedDict, total=False):
    """A file of `diagnoses/`, of one layer."""

    signal: SignalFacts
    agreement: list[AgreementFacts]
    targets: list[TargetFacts]


class SearchNumbers(TypedDict):
    """The numbers of a search, in the metadata of a block's file."""

    learning_rate: float | None
    best_iteration: Count
    tried: list[tuple[float, Number]]
    layer_quality: Number
    uniform_quality: Number
    rates: Size
    steps: Size
    kept_steps: Size


class LayerNumbers(TypedDict):
    """The numbers of a layer, in the metadata of a block's file."""

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
    search: NotRequired[SearchNumbers]


class BlockNumbers(TypedDict):
    """The metadata of a block's file."""

    layers: dict[LayerName, LayerNumbers]


class SweepOptions(TypedDict):
    """The settings of a sweep, as `SweepSettings`."""

    model: str
    grid: dict[str, list[object]]
    shared: dict
    texts: list[dict]


class SweepConfig(RecordHead):
    """`sweep.json`."""

    keep_masks: NotRequired[bool]
    settings: SweepOptions


class DenseFacts(TypedDict, total=False):
    """`dense.json` of a sweep."""

    perplexities: list[PerplexityEntry]


class Problem(TypedDict, total=False):
    """`<cell>.problem.json` of a sweep."""

    problem: str
