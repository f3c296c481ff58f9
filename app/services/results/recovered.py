"""A recovery in tables, curves and a report: how far weights moved, and its point among the sweeps."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import plotly.graph_objects as go

from app.services.results.perplexities import text_of
from app.services.results.report import settings_table
from app.services.server.access import SEMINAR
from diagnostics.export import Chart, Heading, Paragraph, Part, Table, report_html
from diagnostics.figures.perplexity import PerplexityCurve
from diagnostics.figures.recovery import held_out_figure, rows_moved_figure
from diagnostics.figures.theme import Theme
from diagnostics.figures.xray import checkpoint_map_figure
from diagnostics.format import percent
from diagnostics.model_map import layer_grid
from trim.evaluation.entries import format_perplexity
from trim.runs.recovery import Recovery


def medians_moved(moved: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the median over the rows of each layer, by name; layers without kept weights are left out."""
    return {name: float(np.nanmedian(rows)) for name, rows in moved.items() if np.isfinite(rows).any()}


def moved_text(medians: dict[str, float]) -> str:
    """Return a sentence on the layer that moved most."""
    if not medians:
        return "No layer keeps a weight."
    most = max(medians, key=medians.__getitem__)
    middle = np.median(list(medians.values()))
    return f"Most in {most}: {percent(medians[most])}; the median of all layers is {percent(middle)}."


def moved_figure(medians: dict[str, float], theme: Theme = "light") -> go.Figure:
    """Draw how far the layers moved, block by layer type."""
    return checkpoint_map_figure(
        *layer_grid(medians),
        title="What did training move?",
        subtitle="How far the kept weights of a layer's rows moved, median over the rows.",
        measure="moved",
        form=".1%",
        theme=theme,
    )


def recovered_points(
    recoveries: Iterable[Recovery], measured_on: set[tuple[str, str]]
) -> list[PerplexityCurve]:
    """Return a point of the sweeps' figure for each recovery of these dense models on these tokens."""
    points = []
    for recovery in recoveries:
        sparsity, dense = recovery.metrics.get("sparsity"), recovery.record.dense.weights
        for entry in reversed(recovery.metrics.get("perplexities", [])):
            if sparsity is not None and (dense, entry["tokens_sha256"]) in measured_on:
                one = (float(entry["perplexity"]),)
                points.append(PerplexityCurve(recovery.name, "recovered", (sparsity,), one, one, one))
    return points


def recovery_report(recovery: Recovery) -> bytes:
    """Write a recovery as one HTML file: numbers, curve, how far weights moved, settings and versions.

    Raises:
        RunError: a file of it is damaged or gone.
    """
    record, title = recovery.record, recovery.record.dense.title
    parts: list[Part] = [
        *_summary(recovery),
        *_figures(recovery),
        Heading("Settings and versions"),
        settings_table("recovery", recovery, dataclasses.asdict(record)),
    ]
    return report_html(
        recovery.name,
        f"TRIM Lab, a pruned model that was trained · {title} · {recovery.created[:16]} UTC",
        parts,
    )


def _summary(recovery: Recovery) -> Iterator[Part]:
    record, metrics = recovery.record, recovery.metrics
    if recovery.notes["note"]:
        yield Paragraph(recovery.notes["note"])
    text = record.text
    amount = (
        f"{text.corpus}, {text.windows:,} windows of {text.length:,} tokens, {text.held_out:,} more held out"
    )
    rows = [
        ("pruned model", record.pruned.title),
        ("dense model, whose predictions it learned", record.dense.title),
        ("text", SEMINAR.without_paths(amount)),
        ("share of it that the dense model wrote", percent(record.request.sampled or 0, 0)),
        ("training", f"{metrics.get('steps', 0):,} steps in {metrics.get('training_seconds', 0):,.0f} s"),
    ]
    if "sparsity" in metrics:
        rows.append(
            ("sparsity of the model, share of its weights that are zero", percent(metrics["sparsity"], 4))
        )
    for entry in reversed(metrics.get("perplexities", [])):
        windows = SEMINAR.without_paths(text_of(entry))
        rows.append((f"perplexity on {windows}", format_perplexity(float(entry["perplexity"]))))
    yield Table("The recovery", ("", ""), tuple(rows))


def _figures(recovery: Recovery) -> Iterator[Part]:
    metrics = recovery.metrics
    if curve := metrics.get("curve"):
        yield Heading("The training")
        seconds, losses = (np.array([look[name] for look in curve]) for name in ("seconds", "perplexity"))
        figure = held_out_figure(seconds, losses, metrics["best"], what="perplexity", unit="held-out windows")
        yield Chart(figure, "Perplexity on the held-out windows over the time of training")
    if recovery.complete:
        moved = recovery.rows_moved()
        medians = medians_moved(moved)
        yield Heading("What moved")
        yield Paragraph(moved_text(medians))
        yield Chart(moved_figure(medians), "How far the layers moved, block by layer type")
        if medians:
            most = max(medians, key=medians.__getitem__)
            yield Paragraph(f"The rows of {most}:")
            yield Chart(rows_moved_figure(moved[most]), f"How far the rows of {most} moved")
