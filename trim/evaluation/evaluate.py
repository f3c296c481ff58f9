"""Measure the perplexity of models, runs and exported folders, and store the results."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trim.cache import text_sha256
from trim.calibration.tokens import window_start
from trim.devices import dtype_name
from trim.evaluation.perplexity import Perplexity, perplexity
from trim.evaluation.settings import EvaluationText
from trim.evaluation.workbench import Workbench
from trim.progress import ProgressListener
from trim.runs.folder import is_run
from trim.runs.places import require_storable
from trim.runs.recovery import is_recovery, open_stored
from trim.runs.writer import update_metrics

# A new perplexity replaces a stored one with the same values of these keys.
_IDENTITY = ("corpus", "whole", "tokens_sha256", "windows", "length", "dtype")


@dataclass(frozen=True)
class Evaluation:
    """The perplexity of one target on one text.

    Attributes:
        target: the model's source, or the run's folder.
        text: the requested text.
        result: the perplexity and its details.
        tokens_sha256: hash of the windows' tokens, int64, row by row.
        bos: whether each window begins with the beginning-of-text token; None: the tokenizer adds none.
        dtype, device: the model's type and device.
        seconds: the time of the measurement.
    """

    target: str
    text: EvaluationText
    result: Perplexity
    tokens_sha256: str
    bos: bool | None
    dtype: str
    device: str
    seconds: float

    def to_json(self) -> dict:
        """Return an entry of "perplexities" in `metrics.json`."""
        return {
            "corpus": self.text.corpus,
            "whole": self.text.whole,
            **self.result.to_json(),
            "tokens_sha256": self.tokens_sha256,
            "bos": self.bos,
            "dtype": self.dtype,
            "device": self.device,
            "seconds": self.seconds,
        }


def evaluate(
    target: str | Path,
    texts: Sequence[EvaluationText] = (EvaluationText(),),
    *,
    model: str | Path | None = None,
    batch: int | None = None,
    workbench: Workbench | None = None,
    progress: ProgressListener | None = None,
) -> list[Evaluation]:
    """Measure perplexity; results of a run or a recovery are also written into its `metrics.json`.

        trim.evaluate("runs/first", [trim.EvaluationText("wikitext2")])

    Args:
        target: a source for `load_model`, such as an exported folder or a recovery; or a run folder, whose masks are
            applied to its model in memory.
        texts: the texts to measure on.
        model: another model of the same shape for a run, whose results are not written; None: the model it pruned.
        batch: windows in one forward pass; None: automatic.
        workbench: caches the model for further calls; None: a new one for this call.
        progress: called after each forward pass.

    Raises:
        ModelError, RunError, CorpusError, NotEnoughMemoryError: with advice.
    """
    workbench = workbench or Workbench()
    is_stored = is_recovery(target) or (model is None and is_run(target))
    if is_stored:
        require_storable(Path(target))
    with workbench.opened(target, source=model) as opened:
        cut = [workbench.windows(text) for text in texts]  # a bad text is found before anything slow starts
        results = []
        for text, windows in zip(texts, cut, strict=True):
            begin = time.perf_counter()
            result = perplexity(opened, windows, batch=batch, progress=progress)
            results.append(
                Evaluation(
                    str(target),
                    text,
                    result,
                    text_sha256(windows),
                    text.bos if window_start(opened.tokenizer) else None,
                    dtype_name(opened.dtype),
                    opened.device.type,
                    time.perf_counter() - begin,
                )
            )
    if is_stored:
        stored = open_stored(target)
        new = [result.to_json() for result in results]
        identities = [_identity(entry) for entry in new]
        old = [each for each in stored.metrics.get("perplexities", []) if _identity(each) not in identities]
        update_metrics(stored.path, {"perplexities": [*old, *new]})
    return results


def _identity(entry: Mapping[str, object]) -> tuple:
    return tuple(entry.get(key) for key in _IDENTITY)
