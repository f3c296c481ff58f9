"""The shapes of the JSON files of diagnoses; a `…Diagnosis` is measured of the whole model on one text."""

from typing import Annotated, Literal, TypedDict

from trim.runs.fields import Limits
from trim.runs.shapes import MAX_NAME_LENGTH, Count, LayerName, Share, Size, Word

Loss = float | Literal["nan", "inf", "-inf"]


class MeasuredText(TypedDict):
    """The text of a diagnosis, and the type in which the model computed."""

    corpus: str
    windows: Size
    length: Size
    tokens_sha256: str
    dtype: str


class LayerCostJson(TypedDict):
    """The cost of one layer pruned alone."""

    loss: Loss
    standard_error: Loss
    predicted: Loss


class LayerCostDiagnosis(TypedDict):
    """The costs of layers, measured on one text."""

    text: MeasuredText
    dense_loss: Loss
    layers: dict[LayerName, LayerCostJson]


class BlockErrorJson(TypedDict):
    """The error after one block."""

    block: Count
    error: Loss
    low: Loss
    high: Loss
    cosine: Loss
    carried: Loss
    added: Loss
    layers: dict[LayerName, Loss]


class BlockErrorDiagnosis(TypedDict):
    """The errors after all blocks, measured on one text."""

    text: MeasuredText
    blocks: list[BlockErrorJson]


class TokenDiagnosis(TypedDict):
    """A text token by token: its pieces by window, and from the second piece on their losses under both models."""

    text: MeasuredText
    pieces: list[list[str]]
    dense: list[list[Loss]]
    pruned: list[list[Loss]]


class Diagnoses(TypedDict, total=False):
    """`diagnoses.json`."""

    layers: LayerCostDiagnosis
    blocks: BlockErrorDiagnosis
    tokens: TokenDiagnosis


Drawn = Literal["vectors", "windows", "texts"]


class RowSignalJson(TypedDict):
    """The row sparsities that TRIM learned in several draws; a single row of Gini if all are equal."""

    drawn: Drawn
    vectors: Size
    counts: Annotated[list[list[Count]], Limits(2)]
    gini: Annotated[list[list[Loss]], Limits(1)]
    rates: list[float | None]
    titles: list[Annotated[str, Limits(most=MAX_NAME_LENGTH)]]


class MaskAgreementJson(TypedDict):
    """The agreement of a layer's mask with that of another method."""

    score: Word
    allocation: Word
    whole: Share
    expected: Share
    by_row: list[Share]
    by_column: list[Share]


class TargetCounts(TypedDict):
    """The number of weights that each row of a layer loses at several targets."""

    method: Word
    targets: Annotated[list[Share], Limits(1)]
    counts: list[list[Count]]


class LayerDiagnoses(TypedDict, total=False):
    """A file of `diagnoses/`, of one layer."""

    signal: RowSignalJson
    agreement: list[MaskAgreementJson]
    targets: list[TargetCounts]
