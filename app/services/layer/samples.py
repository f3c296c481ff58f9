"""The inputs of layers, shared by all jobs: the windows of texts, and the products of inputs over all tokens."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import trim
from app.services.layer.background import Job
from app.services.layer.keys import SampleKey, StudyKey
from app.services.server.lru import cached
from trim.progress import ProgressListener

if TYPE_CHECKING:  # torch is imported by the jobs that compute with it
    from torch import Tensor

WINDOW_CACHE_SIZE = 4
PRODUCT_CACHE_SIZE = 2  # layers, (N, N) float32 each


class Samples:
    """Caches the windows and products used last."""

    def __init__(self) -> None:
        self._windows: OrderedDict[tuple[str, SampleKey], Tensor] = OrderedDict()
        self._products: OrderedDict[tuple[str, SampleKey, str], trim.LayerSample] = OrderedDict()
        self._lock = threading.Lock()

    def windows(self, model: trim.Model, sample: SampleKey, job: Job) -> Tensor:
        """Return the windows of a text, in a model's tokens."""
        key = (model.fingerprint, sample)
        with self._lock:
            windows = self._windows.get(key)
        if windows is None:
            windows = cut_windows(sample, model, job.report)
        with self._lock:
            return cached(self._windows, key, lambda: windows, WINDOW_CACHE_SIZE)

    def products(self, key: StudyKey, model: trim.Model, job: Job) -> trim.LayerSample:
        """Return a layer captured with the products of its text; the caller holds the lane of measurements."""
        key_of_products = (model.fingerprint, key.sample, key.layer)
        with self._lock:
            sample = self._products.get(key_of_products)
        if sample is None:
            sample = trim.capture(
                model,
                self.windows(model, key.sample, job),
                [key.layer],
                vectors_per_sequence=key.sample.vectors_per_sequence,
                seed=key.sample.seed,
                products=True,
                progress=job.report,
            )[key.layer]
        with self._lock:
            return cached(self._products, key_of_products, lambda: sample, PRODUCT_CACHE_SIZE)


def cut_windows(sample: SampleKey, model: trim.Model, progress: ProgressListener | None = None) -> Tensor:
    """Cut the windows of a sample, in a model's tokens."""
    return trim.load_corpus(
        sample.corpus,
        model.tokenizer,
        windows=sample.windows,
        length=sample.length,
        seed=sample.seed,
        bos=sample.bos,
        progress=progress,
    )
