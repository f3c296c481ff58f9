"""The results of a sweep: a table for people (Markdown), one for programs (CSV), and curves to draw (JSON)."""

import csv
import dataclasses
import io
import math
from pathlib import Path

import numpy as np

from trim.evaluation.entries import format_bos, format_perplexity
from trim.files import write_atomically
from trim.names import counted, local_path, one_line
from trim.runs.fields import number_to_json
from trim.runs.json_files import write_json
from trim.runs.options import options
from trim.runs.settings import PruneSettings
from trim.sweeps.folder import CellOutcome, Sweep
from trim.sweeps.settings import GRID_OPTIONS

SCHEMA = 1
_METHOD = tuple(name for name in GRID_OPTIONS if name not in ("seed", "target"))


def write_results(sweep: Sweep) -> None:
    """Write results.json, results.csv and results.md into the sweep's folder, each complete or not at all."""
    outcomes = sweep.outcomes()
    write_json(sweep.path / "results.json", results(sweep, outcomes))
    write_atomically(sweep.path / "results.csv", results_csv(sweep, outcomes).encode())
    write_atomically(sweep.path / "results.md", results_markdown(sweep, outcomes).encode())


def results(sweep: Sweep, outcomes: list[CellOutcome]) -> dict:
    """Collect every cell, and perplexity against model sparsity by method; plain JSON without this machine's paths.

    "curves" holds, for each method and text: "sparsity" (targets, ascending), "perplexity" (the geometric mean over
    seeds), "least" and "most" (over seeds), "seeds" (how many). NaN and infinity are the words "nan" and "inf".
    """
    settings = sweep.settings
    shared = dict(settings.to_json()["shared"])
    if "corpus" in shared:
        shared["corpus"] = _basename(shared["corpus"])
    return {
        "schema": SCHEMA,
        "sweep": sweep.name,
        "created": sweep.created,
        "model": _basename(settings.model),
        "shared": shared,
        "texts": [
            {
                "corpus": _basename(text.corpus),
                "whole": text.whole,
                "windows": dense["windows"] if dense else text.windows,
                "length": dense["length"] if dense else text.length,
                "bos": dense.get("bos") if dense else None,
                "dense_perplexity": dense["perplexity"] if dense else None,
            }
            for text, dense in zip(settings.texts, sweep.dense(), strict=True)
        ],
        "cells": [_cell(outcome) for outcome in outcomes],
        "curves": _curves(outcomes, len(settings.texts)),
    }


def _basename(source: str) -> str:
    """Return a model or text without the folder in which this machine keeps it."""
    path = local_path(source)
    return one_line(source if path is None else path.name)


def _method(outcome: CellOutcome) -> dict[str, object]:
    """Return the options of a cell except seed and target, without the folder of a budget file."""
    method = {name: value for name, value in outcome.cell.grid_values.items() if name in _METHOD}
    return method | {"budget": Path(str(method["budget"])).name}


def _cell(outcome: CellOutcome) -> dict:
    """Return the entry of a cell in `results.json`."""
    run = outcome.run
    metrics = run.metrics if run is not None else {}
    return {
        "id": outcome.cell.id,
        **_method(outcome),
        "seed": outcome.cell.grid_values["seed"],
        "target": outcome.cell.target,
        "model_sparsity": metrics.get("sparsity", {}).get("realised"),
        "seconds": metrics.get("seconds"),
        "compute": dataclasses.asdict(run.compute) if run is not None else None,
        "done": outcome.done,
        "problem": outcome.problem,
        "perplexities": [entry and entry["perplexity"] for entry in outcome.perplexities],
    }


def _groups(outcomes: list[CellOutcome]) -> dict[tuple, list[CellOutcome]]:
    """Group cells that differ in target and seed only, by their method."""
    groups: dict[tuple, list[CellOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(tuple(_method(outcome).items()), []).append(outcome)
    return groups


def _curves(outcomes: list[CellOutcome], texts: int) -> list[dict]:
    """Return the curves of perplexity against target, for each method and each of `texts` texts."""
    curves = []
    for method, members in _groups(outcomes).items():
        for text in range(texts):
            points: dict[float, list[float]] = {}
            for outcome in members:
                if entry := outcome.perplexities[text]:
                    points.setdefault(outcome.cell.target, []).append(float(entry["perplexity"]))
            targets = sorted(points)
            curves.append(
                {
                    "method": dict(method),
                    "label": _label(dict(method)),
                    "text": text,
                    "sparsity": targets,
                    "perplexity": [number_to_json(geometric_mean(points[target])) for target in targets],
                    "least": [number_to_json(float(np.min(points[target]))) for target in targets],
                    "most": [number_to_json(float(np.max(points[target]))) for target in targets],
                    "seeds": [len(points[target]) for target in targets],
                }
            )
    return curves


def geometric_mean(values: list[float]) -> float:
    """Return exp of the mean logarithm; NaN if any value is NaN."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _label(method: dict[str, object]) -> str:
    """Format a method: "wanda, trim, budgets owl, λ 0.08", without options that are idle or off."""
    score = "" if method["score"] is None else f"{method['score']}, "
    parts = [f"{score}{method['allocation']}, budgets {method['budget']}"]
    parts += [
        options(PruneSettings)[name].short.format(value)
        for name, value in method.items()
        if name not in ("score", "allocation", "budget") and value is not None and value is not False
    ]
    return ", ".join(parts)


def results_markdown(sweep: Sweep, outcomes: list[CellOutcome]) -> str:
    """Write one table for each text.

    Methods go down, model sparsities across, perplexities inside (least and most of several seeds in brackets).
    """
    targets = sorted({outcome.cell.target for outcome in outcomes})
    lines = [f"# {one_line(sweep.name)}: {_basename(sweep.settings.model)}", ""]
    for index, (text, dense) in enumerate(zip(sweep.settings.texts, sweep.dense(), strict=True)):
        size = ""
        if dense:
            windows = counted(dense["windows"], "window")
            size = f", {windows} of {dense['length']:,} tokens{format_bos(dense.get('bos'))}"
        dense_text = format_perplexity(float(dense["perplexity"])) if dense else "not measured"
        lines += [
            f"Perplexity on {text.title}{size}; dense: {dense_text}",
            "",
            "| method | " + " | ".join(f"{target * 100:g}%" for target in targets) + " |",
            "|---" * (len(targets) + 1) + "|",
        ]
        for method, members in _groups(outcomes).items():
            cells = [
                _table_cell([member for member in members if member.cell.target == target], index)
                for target in targets
            ]
            lines.append(f"| {_label(dict(method))} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += [
        f"- {outcome.cell.id}: {one_line(outcome.problem, 300)}" for outcome in outcomes if outcome.problem
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table_cell(members: list[CellOutcome], text: int) -> str:
    values = [float(entry["perplexity"]) for member in members if (entry := member.perplexities[text])]
    if not values:
        return "failed" if any(member.problem for member in members) else "–"
    cell = format_perplexity(geometric_mean(values))
    if len(values) > 1:
        cell += f" ({format_perplexity(float(np.min(values)))}–{format_perplexity(float(np.max(values)))})"
    return cell


def results_csv(sweep: Sweep, outcomes: list[CellOutcome]) -> str:
    """Write one line for each cell and text; fields that make no difference to a cell are empty."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(
        ["cell", *GRID_OPTIONS, "text", "model_sparsity", "perplexity", "seconds", "done", "problem"]
    )
    for outcome in outcomes:
        cell = _cell(outcome)
        for text, value in zip(sweep.settings.texts, cell["perplexities"], strict=True):
            fields = [cell[name] for name in GRID_OPTIONS]
            rest = [text.title, cell["model_sparsity"], value, cell["seconds"], cell["done"], cell["problem"]]
            writer.writerow([cell["id"], *fields, *rest])
    return content.getvalue()
