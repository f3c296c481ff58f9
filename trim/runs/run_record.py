"""Everything that changes the result of a run, as `config.json` holds it under "settings"."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from trim.runs.fields import Limits
from trim.runs.settings import PruneSettings

MAX_TITLE_CHARACTERS = 200


@dataclass(frozen=True)
class ModelFacts:
    """The model that a run pruned: its title, and the fingerprint of its weights."""

    title: Annotated[str, Limits(most=MAX_TITLE_CHARACTERS)]
    weights: str


@dataclass(frozen=True)
class TextFacts:
    """The calibration text.

    Attributes:
        tokens: the number of tokens.
        sha256: hash of the tokens, and of the mask where there is one.
        given: whether the user gave the text as tokens instead of the name of a corpus.
        bos: whether each window begins with the model's beginning-of-text token.
    """

    tokens: int
    sha256: str
    given: bool = False
    bos: bool = False


@dataclass(frozen=True)
class Compute:
    """The hardware and the arithmetic that computed a run.

    Attributes:
        device, device_name: such as "cuda" and the name of the GPU.
        dtype: the type in which the model computed, such as "float32".
        batch: windows in one forward pass; None for a layer kept from the app.
        threads: CPU threads; None for a layer kept from the app.
    """

    device: str
    device_name: str
    dtype: str
    batch: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """The request, and everything else that changes the result; its hash is the run's fingerprint.

    Attributes:
        request: the requested settings.
        model, text: the pruned model, and the calibration text.
        compute: the hardware and the arithmetic.
        versions: the versions of Python and the libraries.
        budget_file: each layer's sparsity, where the request names a file of budgets.
    """

    request: PruneSettings
    model: ModelFacts
    text: TextFacts
    compute: Compute
    versions: dict[str, str]
    budget_file: dict[str, float] | None = None

    def to_json(self) -> dict:
        """Return plain JSON, from which `read_fields` makes the same record."""
        return dataclasses.asdict(self) | {"request": self.request.to_json()}
