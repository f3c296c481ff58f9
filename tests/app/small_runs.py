"""Runs so small that a test may make its own: two blocks of two layers, written as the library writes them."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

import trim
from tests.app.small import layer_sample
from trim.models.heads import HeadLayout
from trim.progress import Progress
from trim.pruning.events import event_to_json
from trim.runs.facts import versions
from trim.runs.json_files import settings_fingerprint, write_json
from trim.runs.record import LayerRecord
from trim.runs.recording import layer_record, record_of_search
from trim.runs.recover_settings import RecoverSettings
from trim.runs.recovery import RecoveryRecord, RecoveryTextFacts
from trim.runs.run_record import Compute, ModelFacts, RunRecord, TextFacts
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter, write_notes

PATHS = ("self_attn.q_proj", "mlp.gate_proj")
BLOCKS = 2
EVIL = "<b>bold</b> *x* $y$ [a](b)"  # a name that HTML and Markdown would read
HEADS = HeadLayout(query=3, key_value=1, size=4)


def record(
    name: str, allocation: str = "trim", target: float = 0.5, *, mask: bool = True, columns: int = 40
) -> LayerRecord:
    """Return a layer of 12 rows, different for every name."""
    sample = layer_sample(columns=columns, seed=sum(name.encode()))
    layer = sample.scored("wanda")
    curves = layer.curves
    if allocation == "trim":
        result = trim.search(curves, trim.SearchSettings(target))
        return record_of_search(name, layer, result, score_name="wanda", with_mask=mask)
    total = trim.total_count(target, curves.rows, curves.columns, 1.0)
    counts = trim.uniform_counts(curves.rows, total)
    if allocation == "optimal":
        counts = trim.optimal_counts(trim.lower_hull(curves.error, int(0.99 * curves.columns)), total)
    keep = trim.keep_mask(curves.ranks, counts)
    return layer_record(
        name,
        dataclasses.replace(layer, sensitivity=torch.ones(curves.rows) if allocation == "optimal" else None),
        counts,
        budget=target,
        allocation=allocation,
        score_name="wanda",
        keep=keep if mask else None,
    )


def refitted(record: LayerRecord, left: float = 0.875) -> LayerRecord:
    """Return the record with kept weights of made-up values, as if they were refitted."""
    rows = np.linspace(0.1, 0.9, record.rows, dtype=np.float32)
    kept = np.linspace(-1, 1, record.rows * record.columns - record.pruned, dtype=np.float16)
    return dataclasses.replace(
        record,
        kept_weights=kept,
        error_left=left,
        row_error_masked=rows,
        row_error=rows * np.float32(left),
        row_moved=rows / 2,
    )


def settings(allocation: str = "trim", target: float = 0.5, model: str = "Tiny <b>model</b>") -> dict:
    """Return the settings of a run, as `prune` records them."""
    budget = "optimal" if allocation == "optimal" else "uniform"
    request = PruneSettings("demo", target, allocation, budget, windows=2, length=16)
    compute = Compute("cpu", "x86_64", "float32", 2, 2)
    facts = ModelFacts(model, f"{sum(model.encode()):032x}")
    return RunRecord(request, facts, TextFacts(32, "0" * 64), compute, versions()).to_json()


def make_run(
    path: Path,
    allocation: str = "trim",
    target: float = 0.5,
    *,
    name: str = "",
    note: str = "",
    blocks: int = BLOCKS,
    mask: bool = True,
    metrics: dict | None = None,
    model: str = "Tiny <b>model</b>",
    columns: int = 40,
) -> Path:
    """Return a run of a whole (tiny) model; with fewer than BLOCKS blocks it was stopped on the way."""
    with RunWriter.create(path, settings(allocation, target, model), name=name, heads=HEADS) as writer:
        names = [[f"{block}.{layer}" for layer in PATHS] for block in range(BLOCKS)]
        budgets = {each: target for block in names for each in block}
        writer.write_budgets({"method": "uniform", "layers": budgets, "clipped": []})
        for block in range(blocks):
            records = [record(each, allocation, target, mask=mask, columns=columns) for each in names[block]]
            writer.log(event_to_json(Progress(f"Block {block}: writing", block + 1, BLOCKS, 1.0)))
            writer.write_block(block, records)
        if blocks == BLOCKS:
            writer.finish(
                {"sparsity": {"requested": target, "realised": target}, "seconds": 1.0} | (metrics or {})
            )
    if note:
        write_notes(path, name=name or path.name, note=note)
    return path


def make_recovery(
    path: Path, run: trim.Run, *, complete: bool = True, name: str = "Trained <b>again</b>"
) -> Path:
    """Return a recovery of a run as the library writes it, without the weights."""
    recorded = RecoveryRecord(
        RecoverSettings(minutes=1.0, corpus="demo", length=16, batch=2, sampled=0.0, learning_rate=1e-3),
        str(run.path),
        run.fingerprint,
        ModelFacts(run.name[:40], run.model.weights),
        "demo",
        run.model,
        RecoveryTextFacts("demo", "0" * 64, 16, 7, 1),
        run.compute,
        {"torch": "2"},
    )
    settings = dataclasses.asdict(recorded)
    path.mkdir(parents=True)
    config = {
        "schema": 1,
        "created": "2026-11-29T12:00:00+00:00",
        "fingerprint": settings_fingerprint(settings),
    }
    write_json(path / "recovery.json", {**config, "name": name, "settings": settings})
    curve = [
        {
            "step": 10 * step,
            "seconds": 6.0 * step,
            "divergence": 1 / (1 + step),
            "perplexity": 40 / (1 + step),
        }
        for step in range(4)
    ]
    facts = {"curve": curve, "best": 3, "steps": 30, "training_seconds": 18.0, "seconds": 20.0}
    if complete:
        (path / "model").mkdir()
        (path / "model" / "config.json").write_text("{}")
        moved = {name: np.linspace(0.1, 0.5, 12, dtype=np.float32) for name in run.layers}
        (path / "moved.safetensors").write_bytes(save(moved))
        measured = run.metrics.get("perplexities", [])
        facts |= {"sparsity": 0.5, "perplexities": [{**entry, "perplexity": 12.5} for entry in measured[-1:]]}
    write_json(path / "metrics.json", facts)
    return path
