"""Measurements of a run's single layers: one file for each in `diagnoses/`. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trim.methods.agreement import MaskAgreement
from trim.methods.signal import RowSignal
from trim.names import one_line
from trim.runs.diagnosis_shapes import Drawn, LayerDiagnoses, MaskAgreementJson, RowSignalJson
from trim.runs.fields import number_to_json
from trim.runs.folder import Run
from trim.runs.json_files import damaged, read_json, update_json
from trim.runs.shapes import MAX_NAME_LENGTH

FOLDER = "diagnoses"


def read_layer_diagnoses(run: Run, name: str) -> LayerDiagnoses:
    """Read the measurements of one layer; keys that were never measured are missing.

        signal_from_json(read_layer_diagnoses(run, "15.mlp.gate_proj")["signal"], columns=576).signal_share

    Raises:
        RunError: no such layer in the run, or its file is damaged.
    """
    numbers, path = run.numbers(name), _file(run.path, name)
    diagnoses = read_json(path, LayerDiagnoses, optional=True)
    for what, size, expected in _sizes(diagnoses, numbers["rows"], numbers["columns"]):
        if size != expected:
            raise damaged(path, f"its {what} are {size:,}, and it needs {expected:,}")
    return diagnoses


def update_layer_diagnoses(path: Path, name: str, diagnoses: LayerDiagnoses) -> None:
    """Add to the measurements of one layer of a run; existing keys are replaced.

    Raises:
        RunError: it cannot be written.
    """
    update_json(_file(path, name), diagnoses)


def measured_files(path: Path) -> list[str]:
    """Return the files of measured layers, relative to the folder of their run."""
    return sorted(f"{FOLDER}/{each.name}" for each in (path / FOLDER).glob("[0-9]*.json"))


def _file(path: Path, name: str) -> Path:
    return path / FOLDER / f"{name}.json"


def _sizes(diagnoses: LayerDiagnoses, rows: int, columns: int) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each list of numbers, its length, and the expected length."""
    if (signal := diagnoses.get("signal")) is not None:
        draws = len(signal["counts"])
        yield "rates", len(signal["rates"]), draws
        yield "titles", len(signal["titles"]), draws
        yield "draws of Gini", len(signal["gini"]), 1 if len(signal["gini"]) == 1 else draws
        for size in (*map(len, signal["counts"]), *map(len, signal["gini"])):
            yield "rows", size, rows
    for agreement in diagnoses.get("agreement", ()):
        yield "rows", len(agreement["by_row"]), rows
        yield "columns", len(agreement["by_column"]), columns
    for paths in diagnoses.get("targets", ()):
        yield "targets", len(paths["counts"]), len(paths["targets"])
        for counts in paths["counts"]:
            yield "rows", len(counts), rows


def signal_to_json(signal: RowSignal, columns: int, drawn: Drawn, *, vectors: int) -> RowSignalJson:
    """Convert the draws of a layer to JSON.

    Args:
        signal: the draws.
        columns: the layer's number of columns, N.
        drawn: what differs between the draws.
        vectors: the number of input vectors in each draw.
    """
    gini = signal.gini if np.ptp(np.nan_to_num(signal.gini), axis=0).any() else signal.gini[:1]
    return {
        "drawn": drawn,
        "vectors": vectors,
        "counts": np.rint(signal.sparsity * columns).astype(int).tolist(),
        "gini": [[number_to_json(value) for value in draw] for draw in gini.tolist()],
        "rates": list(signal.rates),
        "titles": [one_line(title, MAX_NAME_LENGTH) for title in signal.titles],  # they may be paths
    }


def signal_from_json(stored: RowSignalJson, columns: int) -> RowSignal:
    """Convert JSON from `signal_to_json` back to draws."""
    counts = np.array(stored["counts"])
    return RowSignal(
        counts / columns,
        np.broadcast_to(np.array(stored["gini"], dtype=float), counts.shape),
        tuple(stored["rates"]),
        tuple(stored["titles"]),
    )


def agreement_to_json(agreement: MaskAgreement, score: str, allocation: str) -> MaskAgreementJson:
    """Convert the agreement of a layer's own mask with that of a method to JSON."""
    return {
        "score": score,
        "allocation": allocation,
        "whole": agreement.whole,
        "expected": agreement.expected,
        "by_row": agreement.by_row.round(6).tolist(),
        "by_column": agreement.by_column.round(6).tolist(),
    }


def agreement_from_json(stored: MaskAgreementJson) -> MaskAgreement:
    """Convert JSON from `agreement_to_json` back, with six decimals by row and column."""
    return MaskAgreement(
        stored["whole"], np.array(stored["by_row"]), np.array(stored["by_column"]), stored["expected"]
    )
