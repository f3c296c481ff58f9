"""The layer that comes with the app, drawn before any model is loaded. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.services.layer.array_layer import ArrayLayer
from app.services.layer.keys import FIRST_LAYER, FIRST_TARGET_PERCENT, ModelKey, SampleKey, StudyKey
from app.services.layer.prepared import FirstView, PreparedLayer
from app.services.layer.study import Origin, Study
from trim.errors import RunError, TrimError
from trim.files import atomic_file
from trim.models.heads import HeadLayout
from trim.runs.fields import read_fields
from trim.runs.run_record import Compute, ModelFacts, TextFacts

FILE = Path(__file__).parents[2] / "shipped" / "layer.safetensors"
ARRAYS = ("weight", "inputs", "input_norm")
SCORES = {
    "wanda": lambda weight, norm: np.abs(weight) * norm,
    "magnitude": lambda weight, norm: np.abs(weight),
}


@dataclass(frozen=True)
class LayerGain:
    """The gain of TRIM in one of the model's layers.

    Attributes:
        layer: the layer's name.
        gain: TRIM's gain in layer quality over uniform, at exact counts.
        learning_rate: the chosen rate; None: no rate beats uniform.
        room: the gain of the optimal allocation.
        agreement: Spearman correlation over rows between the cosine at uniform sparsity, which guides TRIM, and the
            number of further weights that the optimal allocation prunes.
    """

    layer: str
    gain: float
    learning_rate: float | None
    room: float
    agreement: float


@dataclass(frozen=True)
class Gains:
    """The gains of TRIM in all layers of the model, each on its inputs in the dense model.

    Attributes:
        target: the layer sparsity.
        layers: number of layers.
        most, least: the layer that gains most, and of the layers that stay uniform the one of weakest agreement.
    """

    target: float
    layers: int
    most: LayerGain
    least: LayerGain


@dataclass(frozen=True, eq=False)
class ShippedLayer:
    """A layer of the demo model, and its inputs on the page's default text.

    Attributes:
        key: the key of its studies, with the score "wanda".
        origin: where it was captured.
        names: the names of all layers of the model.
        gains: the gains of all layers, which decided that this layer is shipped.
        weight, inputs, input_norm: (D, N), (N, L) and (N,) float32, as in a live capture.
        first: the first view of the page.
    """

    key: StudyKey
    origin: Origin
    names: tuple[str, ...]
    gains: Gains
    weight: np.ndarray = field(repr=False)
    inputs: np.ndarray = field(repr=False)
    input_norm: np.ndarray = field(repr=False)
    first: FirstView
    _studies: dict[str, Study] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def study(self, score: str) -> Study:
        """Return the study under this score, shared by all sessions."""
        with self._lock:
            if score not in self._studies:
                scores = SCORES[score](self.weight, self.input_norm)
                arrays = self.weight, self.inputs, scores, self.input_norm
                first = score == self.key.score
                layer = PreparedLayer(self.first, *arrays) if first else ArrayLayer(*arrays)
                self._studies[score] = Study(dataclasses.replace(self.key, score=score), layer, self.origin)
            return self._studies[score]

    def prepare(self) -> None:
        """Sweep the layer; its first view does not need that."""
        layer = self.study(self.key.score).layer
        assert isinstance(layer, PreparedLayer)
        _ = layer.tables

    def save(self, file: Path) -> None:
        """Write the file that `read` reads: the weight in float16, as in the model, the rest in float32.

        Raises:
            RunError: float16 cannot represent the weight, or the file cannot be written.
        """
        from safetensors.numpy import save

        weight = self.weight.astype(np.float16)
        if not np.array_equal(weight.astype(np.float32), self.weight):
            raise RunError(f"{self.key.layer} has weights that float16 cannot represent")
        arrays = {"weight": weight, "inputs": self.inputs, "input_norm": self.input_norm, **self.first.arrays}
        # safetensors writes contiguous arrays only.
        arrays = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        facts = {
            "layer": self.key.layer,
            "sample": dataclasses.asdict(self.key.sample),
            "model": dataclasses.asdict(self.origin.model),
            "text": dataclasses.asdict(self.origin.text),
            "compute": dataclasses.asdict(self.origin.compute),
            "heads": None if self.origin.heads is None else dataclasses.asdict(self.origin.heads),
            "names": self.names,
            "gains": dataclasses.asdict(self.gains),
            "target": FIRST_TARGET_PERCENT,
            "first": self.first.numbers,
            "checksum": _checksum(arrays),
        }
        with atomic_file(file) as out:
            out.write(save(arrays, {"facts": json.dumps(facts)}))

    @classmethod
    def read(cls, file: Path) -> ShippedLayer:
        """Read a shipped layer.

        Raises:
            RunError: there is none, it is damaged, or it was made of another text than the page chooses.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, "np") as opened:
                facts = json.loads(opened.metadata()["facts"])
                names = opened.keys()
                arrays = {name: opened.get_tensor(name) for name in names}
            if facts["checksum"] != _checksum(arrays):
                raise RunError("it is damaged")
            if facts["layer"] != FIRST_LAYER or facts["sample"] != dataclasses.asdict(SampleKey()):
                raise RunError("it was made of another layer or text than this version begins with")
            if facts["target"] != FIRST_TARGET_PERCENT:
                raise RunError("it was made for another target than this version begins with")
            gains = facts["gains"] | {
                name: read_fields(LayerGain, facts["gains"][name], name) for name in ("most", "least")
            }
            weight, inputs, norm = (arrays.pop(name).astype(np.float32) for name in ARRAYS)
            return cls(
                StudyKey(ModelKey(), SampleKey(), FIRST_LAYER, "wanda"),
                Origin(
                    read_fields(ModelFacts, facts["model"], "model"),
                    read_fields(TextFacts, facts["text"], "text"),
                    read_fields(Compute, facts["compute"], "compute"),
                    None if facts["heads"] is None else read_fields(HeadLayout, facts["heads"], "heads"),
                ),
                tuple(facts["names"]),
                Gains(**gains),
                weight,
                inputs,
                norm,
                FirstView(facts["first"], arrays),
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, TrimError) as error:
            raise RunError(
                f"The layer that comes with the app, {file.name}, cannot be read: {error}"
            ) from error


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), checksum)
    return checksum


@functools.cache
def shipped_layer() -> ShippedLayer | str:
    """Return the layer that comes with the app, read once, or the reason why it cannot be read."""
    try:
        return ShippedLayer.read(FILE)
    except RunError as error:
        return str(error)
