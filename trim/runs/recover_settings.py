"""Every option of training a pruned model, each declared once."""

from dataclasses import dataclass

from trim.errors import SettingsError
from trim.runs.options import option
from trim.runs.settings import DEVICE, MACHINE
from trim.seeds import MAX_SEED, require_seed

TRAINING, RECOVERY_TEXT = "training", "text"


@dataclass(frozen=True)
class RecoverSettings:
    """The settings of a recovery: how long, on what text, and how.

    Raises:
        SettingsError: a value is invalid; the message gives the reason.
    """

    minutes: float = option(
        5.0,
        help="how long to train, with measurements and text of the dense model but without loading and writing",
        label="Minutes",
        group=TRAINING,
        limits=(0.1, 10_000),
    )
    steps: int | None = option(
        None,
        help="train for this many steps instead of minutes; on a CPU the result is then reproducible bit for bit",
        label="Steps",
        group=TRAINING,
        unset="as many as the minutes allow",
        limits=(1, 10**7),
    )
    learning_rate: float | None = option(
        None,
        help="Adam's highest learning rate, relative to the size of the kept weights (the median of the matrices' root "
        "mean squares); reached after a twentieth of the time, and 0 at its end",
        label="Learning rate",
        group=TRAINING,
        unset="0.004 per nat of held-out divergence before the training, but at most 0.002",
        metavar="RATE",
    )
    batch: int | None = option(
        None,
        help="windows in one step",
        label="Windows in a step",
        group=TRAINING,
        unset="as many as have 8,192 tokens on a GPU, 512 on a CPU",
        limits=(1, 10**6),
    )
    sampled: float | None = option(
        None,
        help="the share of the windows that the dense model writes itself, half of them continuing the text",
        label="Share of text that the dense model writes",
        group=RECOVERY_TEXT,
        unset="half on a GPU; none on a CPU, where writing takes as long as training",
        unit="%",
        limits=(0, 100),
        metavar="SHARE",
    )
    corpus: str | None = option(
        None,
        help="demo, wikitext2, c4, or a .txt, .jsonl or .parquet file, of which the calibration part is read",
        label="Text",
        group=RECOVERY_TEXT,
        unset="the run's; demo for a checkpoint",
    )
    windows: int = option(
        512,
        help="windows drawn from the text, an eighth of them held out",
        label="Windows",
        group=RECOVERY_TEXT,
        limits=(2, 10**6),
    )
    length: int | None = option(
        None,
        help="tokens in a window",
        label="Tokens in a window",
        group=RECOVERY_TEXT,
        unset="the run's; 1,024 for a checkpoint, or its context",
        limits=(2, 10**6),
    )
    seed: int = option(
        0,
        help="decides which windows, their order, and what the dense model writes",
        label="Seed",
        group=RECOVERY_TEXT,
        limits=(0, MAX_SEED),
    )
    device: str | None = DEVICE
    dtype: str | None = option(
        None,
        help="type of the forward passes, float32 or bfloat16; trained weights and the optimizer are float32",
        label="Type",
        group=MACHINE,
        unset="bfloat16 on a GPU, float32 on a CPU",
    )

    def __post_init__(self) -> None:
        for name in ("minutes", "steps", "learning_rate", "batch"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SettingsError(f"--{name.replace('_', '-')} must be above 0, not {value}")
        if self.sampled is not None and not 0 <= self.sampled <= 0.9:
            raise SettingsError(
                f"between 0 and 0.9 of the windows can be the dense model's own, not {self.sampled:g}; the others "
                "come from the text"
            )
        if self.windows < 2:
            raise SettingsError(
                f"a text needs at least 2 windows, one to train on and one held out, not {self.windows}"
            )
        if self.length is not None and self.length < 2:
            raise SettingsError(f"a window has at least 2 tokens, not {self.length}")
        require_seed(self.seed)
        if self.dtype == "float16":
            raise SettingsError(
                "float16 loses small gradients; train in bfloat16 or float32 (--dtype), the recovered model has the "
                "type of the pruned one either way"
            )
