"""Makes the layer that comes with the app: `python -m app.ship_layer`, some minutes; `make shipped` does it last.

It is the one in which TRIM gains most of all layers of the demo model, each with what the dense model makes it receive
of the text that the page chooses by itself.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import trim
from app.services.layer.array_layer import ArrayLayer
from app.services.layer.keys import FIRST_LAYER, FIRST_TARGET_PERCENT, ModelKey, SampleKey, StudyKey
from app.services.layer.prepared import FirstView
from app.services.layer.samples import cut_windows
from app.services.layer.shipped import FILE, SCORES, Gains, LayerGain, ShippedLayer
from app.services.layer.study import Origin
from trim.errors import RunError

SCORE = "wanda"


def gains_in(samples: dict[str, trim.LayerSample], target: float) -> Gains:
    """Search every layer; return the one in which TRIM gains most, and one that it leaves uniform."""
    gains = [_gain(name, sample, target) for name, sample in samples.items()]
    most = max(gains, key=lambda each: each.gain)
    uniform = [each for each in gains if each.learning_rate is None] or gains
    least = min(uniform, key=lambda each: (abs(each.gain), abs(each.agreement)))
    return Gains(target, len(gains), most, least)


def _gain(name: str, sample: trim.LayerSample, target: float) -> LayerGain:
    weight, inputs, norm = _arrays(sample)
    layer = ArrayLayer(weight, inputs, SCORES[SCORE](weight, norm), norm)
    result = layer.search(trim.SearchSettings(target))
    best = layer.optimum(result, None)
    taken = best.counts - result.uniform_counts
    return LayerGain(
        name,
        result.realised_quality - result.uniform_realised_quality,
        result.learning_rate,
        best.quality - result.uniform_realised_quality,
        float(spearmanr(layer.cosine(result.uniform_counts), taken).statistic),
    )


def _arrays(sample: trim.LayerSample) -> tuple[np.ndarray, ...]:
    return tuple(values.numpy() for values in (sample.weight, sample.inputs, sample.input_norm))


def ship_layer(file: Path) -> None:
    """Write the demo's layer in which TRIM gains most, which the page opens with.

    Raises:
        RunError: the layer is not `FIRST_LAYER`; the message says what to change.
    """
    sample = SampleKey()
    loaded = trim.load_model("demo", device="cpu", dtype="float32")
    windows = cut_windows(sample, loaded)
    captured = trim.capture(
        loaded, windows, vectors_per_sequence=sample.vectors_per_sequence, seed=sample.seed
    )
    gains = gains_in(captured, FIRST_TARGET_PERCENT / 100)
    if gains.most.layer != FIRST_LAYER:
        raise RunError(
            f"TRIM gains most in {gains.most.layer}, and the page begins with {FIRST_LAYER}; change FIRST_LAYER in "
            "app/services/layer/keys.py"
        )
    weight, inputs, norm = _arrays(captured[FIRST_LAYER])
    ShippedLayer(
        StudyKey(ModelKey(), sample, FIRST_LAYER, SCORE),
        Origin.of(loaded, windows),
        tuple(loaded.layers),
        gains,
        weight,
        inputs,
        norm,
        FirstView.of(ArrayLayer(weight, inputs, SCORES[SCORE](weight, norm), norm)),
    ).save(file)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m app.ship_layer", description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE, help="the file")
    chosen = parser.parse_args()
    ship_layer(chosen.out)
    print(f"{chosen.out}: {chosen.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
