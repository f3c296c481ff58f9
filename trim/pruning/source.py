"""The model and the calibration text of a run, and the check that they have not changed since it began."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trim.calibration.calibration import Calibration
from trim.calibration.corpora import check_length, load_corpus, require_text, require_windows
from trim.devices import choose_device
from trim.errors import CorpusError, RunError, SettingsError
from trim.files import write_atomically
from trim.methods.budgets import read_budget_file, read_budgets
from trim.models.checkpoint import load_tokenizer
from trim.models.heads import HeadLayout
from trim.models.loaded import fetch_model
from trim.models.streamed import StreamedModel
from trim.progress import ProgressListener
from trim.pruning.plan import chosen_layers, require_pattern
from trim.runs.facts import compute_facts, text_facts, versions
from trim.runs.run_record import ModelFacts, RunRecord
from trim.runs.settings import PruneSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT_FILE = "calibration.safetensors"  # in the run folder while the run is not complete


def corpus_windows(
    settings: PruneSettings,
    tokenizer: "PreTrainedTokenizerBase",
    progress: ProgressListener | None,
    *,
    corpus: str | None = None,
    seed: int | None = None,
) -> Tensor:
    """Draw the windows that a run with these settings is pruned on, (windows, length) int64.

    Args:
        settings: the run's.
        tokenizer: the model's.
        progress: called at each step.
        corpus: another text; None: the run's.
        seed: another seed; None: the run's.

    Raises:
        CorpusError: as `load_corpus`.
    """
    return load_corpus(
        corpus or settings.corpus,
        tokenizer,
        windows=settings.windows,
        length=settings.length,
        seed=settings.seed if seed is None else seed,
        bos=settings.bos,
        progress=progress,
    )


@dataclass(frozen=True, eq=False)
class RunSource:
    """The model and the text of a run.

    Attributes:
        settings: the requested settings.
        title: a short line that names the model to users.
        model: its skeleton and its files.
        calibration: the text.
    """

    settings: PruneSettings
    title: str
    model: StreamedModel
    calibration: Calibration

    @classmethod
    def open(
        cls,
        settings: PruneSettings,
        tokens: Tensor | None,
        mask: Tensor | None,
        progress: ProgressListener | None,
    ) -> "RunSource":
        """Find the model, read its headers, and load the text unless `tokens` are given.

        Raises:
            ModelError, CorpusError, LayerNotFoundError, SettingsError: see `prune`.
        """
        if tokens is None:
            require_text(settings.corpus)
            require_windows(settings.windows, settings.length)
        if settings.budget.endswith(".json"):
            read_budget_file(Path(settings.budget))
        device, dtype = choose_device(settings.device), settings.dtype
        fetched = fetch_model(settings.model, progress=progress)
        model = StreamedModel(fetched.folder, device=device, dtype=dtype)
        # Refuse layers that do not exist, or do not fit the pattern, before anything slow.
        require_pattern(settings.pattern, chosen_layers(settings.layers, model))
        config = model.module.config.get_text_config()
        if tokens is None:
            check_length(fetched.title, getattr(config, "max_position_embeddings", None), settings.length)
            tokens = corpus_windows(settings, load_tokenizer(fetched.folder), progress)
        calibration = Calibration.of(
            tokens,
            mask,
            vectors_per_sequence=settings.vectors_per_sequence,
            input_vectors=settings.input_vectors,
            seed=settings.seed,
        )
        if int(tokens.max()) >= (size := config.vocab_size):
            raise CorpusError(
                f"the text holds tokens beyond the model's vocabulary of {size:,}; use this model's tokenizer"
            )
        if settings.tune and not settings.needs_dense_pass:
            raise SettingsError(
                "--tune continues from weights that were refitted, or solved to the outputs of the dense model; leave "
                "it out, or choose --refit or --allocation solved"
            )
        if (settings.tune or (settings.refit and not settings.solves)) and calibration.windows < 2:
            raise SettingsError(
                f"--{'tune' if settings.tune else 'refit'} is judged on windows that it does not see, so it needs 2 "
                "windows at least; raise --windows"
            )
        if settings.solves:
            unseen = calibration.held_out if settings.tune else 0
            part = calibration.first(calibration.windows - unseen)
            part.require_tokens(chosen_layers(settings.layers, model))
        return cls(settings, fetched.title, model, calibration)

    @property
    def heads(self) -> HeadLayout | None:
        """Return the model's attention heads; None where its configuration does not say."""
        return HeadLayout.of(self.model.module.config)

    def record(self, batch: int, threads: int, *, given: bool) -> RunRecord:
        """Return everything that changes the result; its hash is the run's fingerprint.

        Args:
            batch: windows in one forward pass.
            threads: CPU threads.
            given: whether the user gave the text as tokens instead of the name of a corpus.
        """
        token = getattr(self.model.module.config.get_text_config(), "bos_token_id", None)
        budget_file = self.settings.budget if self.settings.budget.endswith(".json") else None
        return RunRecord(
            self.settings,
            ModelFacts(self.title, self.model.files.fingerprint()),
            text_facts(
                self.calibration.tokens,
                self.calibration.mask,
                given=given,
                bos_token=token,
            ),
            compute_facts(self.model.device, self.model.dtype, batch, threads),
            versions(),
            read_budgets(Path(budget_file), self.model.layers) if budget_file else None,
        )


def write_text(path: Path, calibration: Calibration) -> None:
    """Save the tokens until the run is complete, so that it can be resumed even if their source changes."""
    tensors = {"tokens": calibration.tokens.int()}
    if calibration.mask is not None:
        tensors["mask"] = calibration.mask
    write_atomically(path, save(tensors))


def read_text(path: Path) -> tuple[Tensor | None, Tensor | None]:
    """Read the saved tokens (windows, length) int64 and their mask; (None, None) if they are missing or damaged."""
    try:
        tensors = load(path.read_bytes())
        return tensors["tokens"].long(), tensors.get("mask")
    except (OSError, SafetensorError, KeyError):
        return None, None


_REASONS = {
    "model": "the model's files have changed since the run began",
    "text": "the calibration text has changed since the run began",
    "budget_file": "the budget file has changed since the run began",
    "compute": "the run began on another device, or in another type",
    "versions": "the run began with other versions of its libraries",
}


def require_same(path: str | Path, before: RunRecord, now: RunRecord) -> None:
    """Require that a resumed run would end as an uninterrupted one.

    Raises:
        RunError: a part of the record has changed since the run began; the message says which.
    """
    old, new = before.to_json(), now.to_json()
    for part, reason in _REASONS.items():
        if old[part] != new[part]:
            was, is_now = old[part] or {}, new[part] or {}
            keys = [key for key in {**was, **is_now} if was.get(key) != is_now.get(key)][:3]
            changes = ", ".join(f"{key}: {was.get(key)} → {is_now.get(key)}" for key in keys)
            raise RunError(
                f"{path} cannot be resumed: {reason} ({changes}). Restore what it began with, or prune again into "
                "another folder"
            )
