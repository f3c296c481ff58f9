"""Keys of the objects that the server shares: model, text, layer. Nothing here computes."""

from collections.abc import Hashable
from dataclasses import dataclass

from trim.methods.search_settings import SearchSettings
from trim.runs.diagnosis_shapes import Drawn

SENSITIVITY_WINDOWS = 32  # as many as a run of the command line takes
DEVICES = "devices"  # the key of the job that lists them
# The layer that the page opens with and that is shipped: the one of the demo model in which TRIM gains most.
FIRST_LAYER = "29.self_attn.v_proj"
FIRST_TARGET_PERCENT = 70


@dataclass(frozen=True)
class ModelKey:
    """A model, its device and its dtype; None: chosen by the library."""

    source: str = "demo"
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class SampleKey:
    """A calibration text, and how much of it the model reads."""

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
    """A layer of a model, and the score that ranks its weights."""

    model: ModelKey
    sample: SampleKey
    layer: str
    score: str


@dataclass(frozen=True)
class XrayKey:
    """A checkpoint to X-ray, and the model that it was made from; None: not given."""

    checkpoint: str
    parent: str | None


@dataclass(frozen=True)
class AgreementKey:
    """A checkpoint to compare with masks of its parent."""

    checkpoint: str
    parent: ModelKey
    sample: SampleKey


@dataclass(frozen=True)
class TokensKey:
    """A checkpoint whose loss on each token is compared with its parent's."""

    checkpoint: str
    parent: ModelKey
    sample: SampleKey


@dataclass(frozen=True)
class SolutionKey:
    """A layer, and the solver that solves it.

    Attributes:
        study: the layer.
        settings: the search's settings. The solver uses their target, and is compared with the search's masks.
        weighed: whether rows are weighted by their sensitivities; otherwise all weigh the same.
        solver: of `SOLVERS`.
    """

    study: StudyKey
    settings: SearchSettings
    weighed: bool
    solver: str


@dataclass(frozen=True)
class SignalKey:
    """The draws that show how certain the learned row sparsities of a layer are.

    Attributes:
        study: the layer.
        settings: the search's settings.
        drawn: what each draw varies: input vectors, windows of the text, or texts.
        draws: number of draws.
        vectors: number of input vectors that each draw resamples.
        texts: texts in addition to the sample's own, if texts are drawn.
    """

    study: StudyKey
    settings: SearchSettings
    drawn: Drawn
    draws: int
    vectors: int
    texts: tuple[str, ...] = ()


def job_title(key: Hashable) -> str:
    """Return the title of a key's job, to display."""
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
