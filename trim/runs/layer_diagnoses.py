"""Measurements of a run's single layers: one file for each in `diagnoses/`. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trim.methods.agreement import MaskAgreement
from trim.methods.signal import RowSignal
from trim.runs.folder import Run
from trim.runs.json_files import damaged, read_json
from trim.runs.shapes import AgreementFacts, Drawn, LayerDiagnoses, SignalFacts
from trim.runs.writer import update_json

FOLDER = "diagnoses"


def layer_diagnoses(run: Run, name: str) -> LayerDiagnoses:
    """Read the measurements of one layer, without the keys that were never measured.

        signal_of(layer_diagnoses(run, "15.mlp.gate_proj")["signal"], columns=576).signal_share

    Raises:
        RunError: no such layer in the run, or its file is damaged.
    """
    numbers, path = run.numbers(name), _file(run.path, name)
    found = read_json(path, LayerDiagnoses, optional=True)
    for what, size, expected in _sizes(found, numbers["rows"], numbers["columns"]):
        if size != expected:
            raise damaged(path, f"its {what} are {size:,}, and it needs {expected:,}")
    return found


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


def _sizes(found: LayerDiagnoses, rows: int, columns: int) -> Iterator[tuple[str, int, int]]:
    """Yield the number of entries of each kind, and the expected number."""
    if (signal := found.get("signal")) is not None:
        draws = len(signal["counts"])
        yield "rates", len(signal["rates"]), draws
        yield "titles", len(signal["titles"]), draws
        yield "draws of Gini", len(signal["gini"]), 1 if len(signal["gini"]) == 1 else draws
        for size in (*map(len, signal["counts"]), *map(len, signal["gini"])):
            yield "rows", size, rows
    for agreement in found.get("agreement", ()):
        yield "rows", len(agreement["by_row"]), rows
        yield "columns", len(agreement["by_column"]), columns
    for paths in found.get("targets", ()):
        yield "targets", len(paths["counts"]), len(paths["targets"])
        for counts in paths["counts"]:
            yield "rows", len(counts), rows


def signal_facts(found: RowSignal, columns: int, drawn: Drawn, *, vectors: int) -> SignalFacts:
    """Describe draws as JSON.

    Args:
        found: the draws.
        columns: the number of the layer's columns.
        drawn: what was drawn again.
        vectors: how many input vectors each draw has.
    """
    alike = len(found.gini) if np.ptp(np.nan_to_num(found.gini), axis=0).any() else 1
    return {
        "drawn": drawn,
        "vectors": vectors,
        "counts": np.rint(found.sparsity * columns).astype(int).tolist(),
        "gini": [
            ["nan" if np.isnan(value) else float(value) for value in each] for each in found.gini[:alike]
        ],
        "rates": list(found.rates),
        "titles": list(found.titles),
    }


def signal_of(facts: SignalFacts, columns: int) -> RowSignal:
    """Return the draws that `signal_facts` described."""
    counts = np.array(facts["counts"])
    return RowSignal(
        counts / columns,
        np.broadcast_to(np.array(facts["gini"], dtype=float), counts.shape),
        tuple(facts["rates"]),
        tuple(facts["titles"]),
    )


def agreement_facts(found: MaskAgreement, score: str, allocation: str) -> AgreementFacts:
    """Describe the agreement of a layer's own mask with that of a method, as JSON."""
    return {
        "score": score,
        "allocation": allocation,
        "whole": found.whole,
        "expected": found.expected,
        "by_row": found.by_row.round(6).tolist(),
        "by_column": found.by_column.round(6).tolist(),
    }


def agreement_of(facts: AgreementFacts) -> MaskAgreement:
    """Read the agreement that `agreement_facts` described, with six decimals by row and column."""
    return MaskAgreement(
        facts["whole"], np.array(facts["by_row"]), np.array(facts["by_column"]), facts["expected"]
    )
