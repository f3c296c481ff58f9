"""The names of what the server shares: which model, which text, which layer. Nothing here computes."""

from collections.abc import Hashable
from dataclasses import dataclass

from trim.methods.search_settings import SearchSettings
from trim.runs.shapes import Drawn

SENSITIVITY_WINDOWS = 32  # as many as a run of the command line takes
DEVICES = "devices"  # the key of the job that lists them
# With which the page begins, and which is shipped: the layer of the demo model in which TRIM gains most there.
FIRST_LAYER = "29.self_attn.v_proj"
FIRST_TARGET_PERCENT = 70


@dataclass(frozen=True)
class ModelKey:
    """Which model, where it computes and in which type; None: chosen by the library."""

    source: str = "demo"
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class SampleKey:
    """Which text the model reads, and how much of it."""

    corpus: str = "demo"
    windows: int = 64
    length: int = 128
    vectors_per_sequence: int = 2
    seed: int = 0
    bos: bool = True


@dataclass(frozen=True)
class SensitivityKey:
    """The model whose rows' sensitivities are measured, and the text."""

    model: ModelKey
    sample: SampleKey


@dataclass(frozen=True)
class StudyKey:
    """Which layer of which model, judged by which score."""

    model: ModelKey
    sample: SampleKey
    layer: str
    score: str


@dataclass(frozen=True)
class XrayKey:
    """Which checkpoint is X-rayed, and the model that it was made from; None: not named."""

    checkpoint: str
    parent: str | None


@dataclass(frozen=True)
class AgreementKey:
    """Which checkpoint is compared with the masks of its parent."""

    checkpoint: str
    parent: ModelKey
    sample: SampleKey


@dataclass(frozen=True)
class TokensKey:
    """The checkpoint whose loss of each token is compared with its parent's."""

    checkpoint: str
    parent: ModelKey
    sample: SampleKey


@dataclass(frozen=True)
class SolutionKey:
    """By which solver a layer is solved.

    Attributes:
        study: the layer.
        settings: of the search, whose target it takes, and with whose masks it is compared.
        weighed: whether rows weigh as much as they are sensitive; otherwise all alike.
        solver: of `SOLVERS`.
    """

    study: StudyKey
    settings: SearchSettings
    weighed: bool
    solver: str


@dataclass(frozen=True)
class SignalKey:
    """The draws, and their number, that show how certain the learned row sparsities of a layer are.

    Attributes:
        study: the layer.
        settings: the search's settings.
        drawn: what is drawn again: input vectors, windows of the text, or texts.
        draws: how many.
        vectors: how many input vectors are resampled each time.
        texts: in addition to its own, where texts are drawn.
    """

    study: StudyKey
    settings: SearchSettings
    drawn: Drawn
    draws: int
    vectors: int
    texts: tuple[str, ...] = ()


def job_title(key: Hashable) -> str:
    """Return what the job of a key does, for people."""
    match key:
        case ModelKey():
            return f"model {key.source}"
        case StudyKey():
            return f"layer {key.layer}"
        case XrayKey():
            return f"X-ray of {key.checkpoint}"
        case AgreementKey():
            return f"masks of {key.checkpoint}"
        case TokensKey():
            return f"losses of {key.checkpoint}"
        case SolutionKey():
            return f"solver of layer {key.study.layer}"
        case SignalKey():
            return f"uncertainty of layer {key.study.layer}"
    return "sensitivities of the rows"
