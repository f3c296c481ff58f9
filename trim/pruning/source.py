"""The model and the calibration text of a run, and whether they are still what the run began with."""

import hashlib
import platform
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trim.calibration.corpora import load_corpus
from trim.calibration.text import Calibration
from trim.devices import choose_device
from trim.errors import CorpusError, RunError
from trim.files import write_atomically
from trim.methods.budgets import read_budgets
from trim.models.checkpoint import load_tokenizer
from trim.models.loaded import model_folder
from trim.models.streamed import StreamedModel
from trim.pruning.events import Event, Stage
from trim.pruning.plan import chosen_layers
from trim.runs.settings import PruneSettings

Listener = Callable[[Event], None]

TEXT_FILE = "calibration.safetensors"  # in the run folder while the run is not complete


class RunSource:
    """The model and the text of a run.

    Attributes:
        settings: what the user asked for.
        title: what the model is called.
        model: its skeleton and its files.
        calibration: the text.
        given: whether the text was handed over as tokens instead of being a corpus.
    """

    def __init__(
        self,
        settings: PruneSettings,
        title: str,
        model: StreamedModel,
        calibration: Calibration,
        given: bool,
    ) -> None:
        self.given = given
        self.settings = settings
        self.title = title
        self.model = model
        self.calibration = calibration

    @classmethod
    def open(
        cls, settings: PruneSettings, tokens: Tensor | None, mask: Tensor | None, progress: Listener | None
    ) -> "RunSource":
        """Find the model, read its headers, and load the text unless `tokens` are given.

        Raises:
            ModelError, CorpusError, LayerNotFoundError, SettingsError: see `prune`.
        """

        def say(words: str) -> None:
            if progress:
                progress(Stage("loading", text=words))

        folder, title = model_folder(settings.model, progress=say)
        model = StreamedModel(folder, device=choose_device(settings.device), dtype=settings.dtype)
        chosen_layers(settings.layers, model.layers)  # a pattern that matches nothing says so at once
        config = model.module.config.get_text_config()
        given = tokens is not None
        if tokens is None:
            longest = getattr(config, "max_position_embeddings", None)
            if longest and settings.length > longest:
                raise CorpusError(
                    f"{title} reads at most {longest:,} tokens at once, not {settings.length:,}; use shorter windows "
                    "(--length)"
                )
            tokens = load_corpus(
                settings.corpus,
                load_tokenizer(folder),
                windows=settings.windows,
                length=settings.length,
                seed=settings.seed,
                progress=say,
            )
        if int(tokens.max()) >= (size := config.vocab_size):
            raise CorpusError(f"the text holds tokens beyond the model's vocabulary of {size:,}")
        calibration = Calibration.of(
            tokens, mask, vectors_per_sequence=settings.vectors_per_sequence, seed=settings.seed
        )
        return cls(settings, title, model, calibration, given)

    def record(self, batch: int, threads: int) -> dict:
        """Everything that changes the result; its hash is the run's fingerprint."""
        device, text = self.model.device, hashlib.sha256(self.calibration.tokens.numpy().tobytes())
        if self.calibration.mask is not None:
            text.update(self.calibration.mask.numpy().tobytes())
        budget_file = self.settings.budget if self.settings.budget.endswith(".json") else None
        return {
            "request": self.settings.to_json(),
            "model": {"title": self.title, "weights": self.model.files.fingerprint()},
            "text": {"given": self.given, "tokens": self.calibration.real_tokens, "sha256": text.hexdigest()},
            "budget_file": read_budgets(Path(budget_file), self.model.layers) if budget_file else None,
            "compute": {
                "device": device.type,
                "device_name": torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else platform.machine(),
                "dtype": str(self.model.dtype).removeprefix("torch."),
                "batch": batch,
                "threads": threads,
            },
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "numpy": numpy.__version__,
            },
        }


def write_text(path: Path, calibration: Calibration) -> None:
    """Keep the tokens until the run is complete, so that it can be gone on with whatever becomes of their source."""
    tensors = {"tokens": calibration.tokens.int()}
    if calibration.mask is not None:
        tensors["mask"] = calibration.mask
    write_atomically(path, save(tensors))


def read_text(path: Path) -> tuple[Tensor | None, Tensor | None]:
    """The kept tokens (sequences, length) int64 and their mask; (None, None) where they are gone or damaged."""
    try:
        tensors = load(path.read_bytes())
        return tensors["tokens"].long(), tensors.get("mask")
    except (OSError, SafetensorError, KeyError):
        return None, None


_SAID = {
    "model": "the model's files have changed since the run began",
    "text": "the calibration text has changed since the run began",
    "budget_file": "the budget file has changed since the run began",
    "compute": "the run began on another device, or in another type",
    "versions": "the run began with other versions of its libraries",
}


def require_same(path: str | Path, before: dict, now: dict) -> None:
    """Refuse to go on where the end would not be that of an uninterrupted run."""
    for part, said in _SAID.items():
        if before.get(part) != now[part]:
            old, new = before.get(part) or {}, now[part] or {}
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)][:3]
            changes = ", ".join(f"{key}: {old.get(key)} → {new.get(key)}" for key in keys)
            raise RunError(
                f"{path} cannot be gone on with: {said} ({changes}). Restore what it began with, or prune again into "
                "another folder"
            )
