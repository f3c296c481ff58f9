"""Learn the row sparsities of a layer from several draws of its calibration data, to tell signal from noise."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from trim.calibration.capture import LayerSample
from trim.errors import SettingsError
from trim.methods.gini import gini
from trim.methods.search import search
from trim.methods.search_settings import SearchSettings
from trim.methods.signal import RowSignal
from trim.progress import Meter, ProgressListener


def row_signal(
    samples: Iterable[LayerSample],
    settings: SearchSettings,
    *,
    score: str = "wanda",
    draws: int = 0,
    progress: ProgressListener | None = None,
) -> RowSignal:
    """Let TRIM learn a layer's row sparsities from several samples of it.

        sample = trim.capture(model, windows, ["15.mlp.gate_proj"])["15.mlp.gate_proj"]
        signal = trim.row_signal(trim.resampled(sample, 16), trim.SearchSettings(0.7), draws=16)
        signal.signal_share

    Args:
        samples: of one layer, two or more: `resampled` vectors of one, or captured with other seeds, from other
            texts or with other numbers of vectors.
        settings: the search's settings.
        score: the score that ranks the weights.
        draws: number of samples, to report the progress; 0: not known.
        progress: called after each sample; an exception from it ends the work.

    Raises:
        SettingsError: there are fewer than two samples.
        NonFiniteError: a sample holds NaN or infinity.
    """
    meter = Meter(progress, of=draws)
    sparsity, coefficients, rates = [], [], []
    for index, sample in enumerate(samples):
        meter.report(f"Learning from draw {index + 1}" + (f" of {draws}" if draws else ""), index)
        layer = sample.scored(score)
        result = search(layer.curves, settings)
        sparsity.append(result.counts.cpu().numpy() / layer.curves.columns)
        coefficients.append(gini(layer.score, layer.curves.sorted_columns).cpu().numpy())
        rates.append(result.learning_rate)
    if len(rates) < 2:
        raise SettingsError(f"uncertainty needs two draws or more, not {len(rates)}")
    names = tuple(f"draw {index + 1}" for index in range(len(rates)))
    return RowSignal(np.stack(sparsity), np.stack(coefficients), tuple(rates), names)


def resampled(
    sample: LayerSample, draws: int, *, vectors: int | None = None, seed: int = 0
) -> Iterator[LayerSample]:
    """Yield bootstrap samples: `vectors` input vectors (None: as many as there are), drawn with replacement.

    Feature norms, which are over all tokens, are not resampled.
    """
    generator = torch.Generator().manual_seed(seed)
    captured = sample.inputs.shape[1]
    for _ in range(draws):
        chosen = torch.randint(captured, (vectors or captured,), generator=generator)
        chosen = chosen.to(sample.inputs.device)
        yield replace(sample, inputs=sample.inputs[:, chosen].contiguous())
