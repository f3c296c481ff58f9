"""Prune a whole model into a run folder, and go on with a run that was stopped."""

import contextlib
import hashlib
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trim.allocations import Pattern
from trim.atomic import write_atomically
from trim.budgets import Budgets, read_budgets
from trim.checkpoint import load_tokenizer
from trim.corpora import load_corpus
from trim.devices import choose_device
from trim.errors import CorpusError, RunError
from trim.events import Began, Event, Finished, Stage, to_json
from trim.inputs import Calibration
from trim.models import model_folder
from trim.pipeline import Method, prune_blocks
from trim.planning import chosen_layers, plan_budgets
from trim.prune_settings import BUDGETS, PruneSettings
from trim.run_writer import RunWriter
from trim.runs import Run, open_run
from trim.streaming import StreamedModel
from trim.text_pass import default_batch, fixed_threads, text_pass

Listener = Callable[[Event], None]

_NAMES = {"demo", "wikitext2", "c4", *BUDGETS}
TEXT_FILE = "calibration.safetensors"  # in the run folder while the run is not complete


def prune(
    model: str | Path,
    out: str | Path,
    *,
    tokens: Tensor | None = None,
    mask: Tensor | None = None,
    tokens_of_corpus: bool = False,
    name: str = "",
    activation_bytes: int | None = None,
    progress: Listener | None = None,
    **settings: object,
) -> Run:
    """Prune a whole model; weights are read block by block, and the result is a run folder with its masks.

        run = trim.prune("demo", "runs/first", target=0.7, windows=16, length=256)

    Args:
        model: a source that `load_model` knows.
        out: the run folder; must not hold anything yet.
        tokens: (sequences, length) int64, a calibration text of your own instead of `corpus`.
        mask: (sequences, length) bool, False where `tokens` are padding.
        tokens_of_corpus: `tokens` are what `corpus` yields, read beforehand because several runs share them.
        name: what people call the run.
        activation_bytes: the most hidden states that memory may hold, the rest of RAM and disk being for the others;
            None: part of what is free. Has no influence on the result.
        progress: is told of each step (`trim.events`).
        settings: what `PruneSettings` takes: target, allocation, budget, score, windows, …

    Raises:
        SettingsError: settings that make no sense.
        ModelError, CorpusError: the model or text cannot be read.
        RunError: the folder is not empty, or cannot be written.
        NonFiniteError: NaN or infinity in a layer; the message names it.
        NotEnoughMemoryError: memory does not suffice, with advice.
    """
    # A run can be gone on with from any folder.
    places = {key: _absolute(settings[key]) for key in ("corpus", "budget") if key in settings}
    chosen = PruneSettings(model=_absolute(model), **settings | places)
    source = _Source.open(chosen, tokens, mask, progress)
    source.given = source.given and not tokens_of_corpus
    batch = chosen.batch or default_batch(source.calibration, source.model.device)
    record = source.record(min(batch, source.calibration.sequences), torch.get_num_threads())
    with RunWriter.create(out, record, name=name or chosen.name) as writer:
        _write_text(writer.path / TEXT_FILE, source.calibration)
        return _work(writer, source, activation_bytes, progress)


def resume(
    path: str | Path,
    *,
    tokens: Tensor | None = None,
    mask: Tensor | None = None,
    activation_bytes: int | None = None,
    repair: bool = False,
    progress: Listener | None = None,
) -> Run:
    """Go on with a run that was stopped; it ends bit for bit as if it had not been.

    Args:
        path: the run folder.
        tokens, mask: the text of `prune` where it was given; only needed to repair a run that is complete.
        activation_bytes: as for `prune`.
        repair: look at every block file first, and make damaged ones again, and all blocks behind them.
        progress: is told of each step.

    Raises:
        RunError: no run, or the model, the text, the device or a version changed since it began.
        The errors of `prune`.
    """
    run = open_run(path)
    if run.kind != "model":
        raise RunError(f"{path} keeps single layers from the app; there is nothing to go on with")
    with RunWriter.reopen(path) as writer:
        damaged = _damaged_blocks(open_run(path))
        if damaged and not repair:
            open_run(path).block(damaged[0])  # a file cut short says so itself
            raise RunError(
                f"{writer.path / run.manifest['blocks'][str(damaged[0])]['file']} is damaged: its content has changed. "
                f"To make it again: python -m trim resume {path} --repair"
            )
        if damaged:
            writer.drop_blocks(index for index in run.blocks if index >= damaged[0])
        run = open_run(path)
        if run.complete:
            return run
        compute = run.settings["compute"]
        if tokens is None:
            tokens, mask = _read_text(run.path / TEXT_FILE)
        if tokens is None and run.settings["text"]["given"]:
            raise RunError(f"{path} was begun with a text of its own: trim.resume({str(path)!r}, tokens=…)")
        source = _Source.open(PruneSettings.from_json(run.settings["request"]), tokens, mask, progress)
        source.given = run.settings["text"]["given"]
        _require_same(path, run.settings, source.record(compute["batch"], compute["threads"]))
        return _work(writer, source, activation_bytes, progress)


def _absolute(source: object) -> str:
    """A path that stays true wherever one stands; names such as "demo" as they are."""
    text = str(source)
    path = Path(text).expanduser()
    return str(path.resolve()) if text not in _NAMES and path.exists() else text


class _Source:
    """The model and the text of a run."""

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
    ) -> "_Source":
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


def _work(writer: RunWriter, source: _Source, activation_bytes: int | None, progress: Listener | None) -> Run:
    """Budgets, then the blocks that are missing, then the totals."""
    begin = time.perf_counter()
    run = open_run(writer.path)
    compute = run.settings["compute"]

    def tell(event: Event) -> None:
        writer.log(to_json(event))
        if progress:
            progress(event)

    with fixed_threads(compute["threads"]), torch.inference_mode(), _told_of_its_end(tell):
        options = {
            "batch": compute["batch"],
            "folder": writer.path,
            "activation_bytes": activation_bytes,
        }
        budgets = _known_budgets(run, source)
        if budgets is None:
            budgets = plan_budgets(
                source.model, source.calibration, source.settings, listener=tell, **options
            )
            writer.write_budgets(budgets.to_json())
        with text_pass(source.model, source.calibration, **options) as text:
            tell(
                Began(
                    len(source.model.blocks),
                    len(budgets.totals),
                    len(run.blocks),
                    source.calibration.real_tokens,
                    text.batch,
                    text.states.place,
                )
            )
            pattern = source.settings.pattern
            prune_blocks(
                text,
                budgets,
                Method(
                    source.settings.allocation,
                    source.settings.score,
                    Pattern.parse(pattern) if pattern else None,
                    source.settings.search_settings,
                ),
                writer,
                run,
                recalculate_inputs=source.settings.recalculate_inputs,
                listener=tell,
            )
        metrics = _metrics(open_run(writer.path), budgets, time.perf_counter() - begin)
        (writer.path / TEXT_FILE).unlink(missing_ok=True)
        tell(Finished(metrics["sparsity"]["realised"], metrics["seconds"]))
        return writer.finish(metrics)


def _write_text(path: Path, calibration: Calibration) -> None:
    """Keep the tokens until the run is complete, so that it can be gone on with whatever becomes of their source."""
    tensors = {"tokens": calibration.tokens.int()}
    if calibration.mask is not None:
        tensors["mask"] = calibration.mask
    write_atomically(path, save(tensors))


def _read_text(path: Path) -> tuple[Tensor | None, Tensor | None]:
    """The kept tokens (sequences, length) int64 and their mask; (None, None) where they are gone or damaged."""
    try:
        tensors = load(path.read_bytes())
        return tensors["tokens"].long(), tensors.get("mask")
    except (OSError, SafetensorError, KeyError):
        return None, None


@contextlib.contextmanager
def _told_of_its_end(tell: Listener) -> Iterator[None]:
    """The last line of the log says that a run was stopped, and by what."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(RunError):
            tell(Stage("stopped", text=type(error).__name__))
        raise


def _known_budgets(run: Run, source: _Source) -> Budgets | None:
    """The budgets that the run began with, exact to the weight."""
    if not run.budgets:
        return None
    shapes = chosen_layers(source.settings.layers, source.model.layers)
    try:
        sparsities = run.budgets["layers"]
        totals = {name: round(sparsities[name] * rows * columns) for name, (rows, columns) in shapes.items()}
        return Budgets(
            run.budgets["method"], totals, shapes, run.budgets["requested"], tuple(run.budgets["clipped"])
        )
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{run.path / 'budgets.json'} is damaged ({error}); prune again into another folder"
        ) from error


def _metrics(run: Run, budgets: Budgets, seconds: float) -> dict:
    layers = {name: run.numbers(name) for name in run.layers}
    weights = sum(numbers["rows"] * numbers["columns"] for numbers in layers.values())
    pruned = sum(int(run.array(name, "counts").sum(dtype=numpy.int64)) for name in layers)
    return {
        "sparsity": {"requested": budgets.sparsity, "realised": pruned / weights},
        "weights": {"pruned": pruned, "of": weights},
        "clipped_budgets": len(budgets.clipped),
        "seconds": run.metrics.get("seconds", 0) + seconds,
    }


def _damaged_blocks(run: Run) -> list[int]:
    """Blocks whose file is missing or not what the manifest says."""
    damaged = []
    for index in run.blocks:
        entry = run.manifest["blocks"][str(index)]
        try:
            with (run.path / entry["file"]).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            digest = None
        if digest != entry.get("sha256"):
            damaged.append(index)
    return damaged


_SAID = {
    "model": "the model's files have changed since the run began",
    "text": "the calibration text has changed since the run began",
    "budget_file": "the budget file has changed since the run began",
    "compute": "the run began on another device, or in another type",
    "versions": "the run began with other versions of its libraries",
}


def _require_same(path: str | Path, before: dict, now: dict) -> None:
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
