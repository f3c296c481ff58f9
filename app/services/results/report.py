"""A run as one HTML file: summary, all figures, settings, versions and commands."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from app.services.results.perplexities import on_one_text
from app.services.results.tables import model_map
from app.services.runs.commands import reproduce
from app.services.runs.facts import text_title
from app.services.runs.layer import METHOD_LABELS, LayerView
from app.services.server.access import SEMINAR
from diagnostics.allocation import row_scatter, row_sparsity_statistics
from diagnostics.export import Chart, Fold, Heading, Paragraph, Part, Table, report_html
from diagnostics.figures.allocation import row_sparsity_ecdf, row_sparsity_histogram, sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram
from diagnostics.figures.iterations import iteration_figure, landscape_figure
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.model_map import model_map_figure
from diagnostics.figures.outcome_gini import outcome_gini_figure
from diagnostics.figures.perplexity import perplexity_figure
from diagnostics.figures.scatter import row_scatter_figure
from diagnostics.figures.similarity import cosine_figure, cosine_histogram
from diagnostics.format import counted, number, percent, rate_label
from diagnostics.model_map import MapQuantity, ModelMap, outcome_lanes
from diagnostics.similarity import cosine_distribution, cosine_statistics
from trim.evaluation.entries import format_perplexity
from trim.runs.folder import Run
from trim.runs.listing import StoredFolder
from trim.runs.record import LayerRecord

MAPS: dict[MapQuantity, str] = {
    "layer_sparsity": "Layer sparsity, block by layer type",
    "median_gini": "Median Gini, block by layer type",
    "quality_gain": "Gain in layer quality over uniform, block by layer type",
    "row_variance_uniform": "Variance of row cosines at uniform row sparsity, block by layer type",
    "row_variance": "Variance of row cosines as pruned, block by layer type",
    "row_variance_change": "Change of that variance, block by layer type",
}

FIRST_MAPS: tuple[MapQuantity, ...] = ("quality_gain", "median_gini")


def run_report(run: Run, layers: Sequence[str]) -> bytes:
    """Write the report, with charts of `layers`; tables and maps hold all layers.

    Raises:
        RunError: a file of the run is damaged or gone.
    """
    shown = model_map(run)
    parts: list[Part] = [*_summary(run), *_text(run)]
    if run.kind == "model" and shown.layers:
        parts += [Heading("The whole model"), *_maps(shown)]
    for name in layers:
        parts += [Heading(f"Layer {name}"), *_layer(run, name)]
    parts += [Heading("Every layer"), _layer_table(shown), Heading("Settings and versions"), *_settings(run)]
    kind = "whole model" if run.kind == "model" else "single layer"
    title = run.model.title
    return report_html(run.name, f"TRIM Lab, a run of a {kind} · {title} · {run.created[:16]} UTC", parts)


def _summary(run: Run) -> Iterator[Part]:
    if run.notes["note"]:
        yield Paragraph(run.notes["note"])
    request = run.request
    rows = [
        ("state", "complete" if run.complete else f"unfinished: {counted(len(run.blocks), 'block')} done"),
        ("score", request.score),
        (
            "allocation, who sets each row's sparsity",
            request.pattern or request.allocation,
        ),
        (
            "budgets, who sets each layer's sparsity",
            str(run.budgets.get("method", request.budget)),
        ),
        ("calibration text", text_title(run.text, request)),
    ]
    metrics = run.metrics
    for found, of in ((metrics.get("sparsity"), "model"), (metrics.get("layer_sparsity"), "layer")):
        if found:
            shares = f"{percent(found['realised'], 4)} (requested: {percent(found['requested'], 4)})"
            rows.append((f"sparsity of the {of}, share of its weights pruned", shares))
    for entries, whose in (
        (metrics.get("perplexities", []), "as pruned"),
        (metrics.get("uniform_perplexities", []), "Wanda with uniform sparsity"),
        (metrics.get("dense_perplexities", []), "dense"),
    ):
        for entry in entries:
            text = f"{entry.get('corpus')}, {entry.get('windows')} windows of {entry.get('length')} tokens"
            rows.append((f"perplexity, {whose}, on {text}", format_perplexity(float(entry["perplexity"]))))
    yield Table("The run", ("", ""), tuple(rows))
    if measured := on_one_text([run]):
        bars = [bar for bar in measured.bars() if math.isfinite(bar.perplexity)]
        yield Chart(perplexity_figure(bars, measured.text), f"Bars of perplexity on {measured.text}")


def _text(run: Run) -> Iterator[Part]:
    """Show one prompt and its continuations, where the run keeps them."""
    for entry in run.metrics.get("continuations", []):
        yield Heading("One prompt, continued")
        yield Paragraph(str(entry.get("prompt", "")))
        texts = entry.get("texts", {})
        rows = tuple((METHOD_LABELS.get(name, name.capitalize()), str(text)) for name, text in texts.items())
        yield Table("The most probable continuation", ("model", "text"), rows)


def _maps(shown: ModelMap) -> Iterator[Part]:
    charts = {quantity: Chart(model_map_figure(shown, quantity), alt) for quantity, alt in MAPS.items()}
    if shown.searched:
        yield Chart(
            model_map_figure(shown, "outcome"), "Outcome of TRIM's learning rate, block by layer type"
        )
    for quantity in FIRST_MAPS:
        yield charts.pop(quantity)
    rest = list(charts.values())
    if shown.searched:
        alt = "Learning-rate outcome of every layer against its median Gini"
        rest.append(Chart(outcome_gini_figure(outcome_lanes([shown])), alt))
    yield Fold(
        "More of the whole model: sparsities, variances of the rows' cosines, rates against the Gini",
        tuple(rest),
    )


def _layer(run: Run, name: str) -> Iterator[Part]:
    record = run.layer(name, mask=False)
    layer = LayerView.of(run, record)
    yield Paragraph(
        f"{record.rows:,} rows (output dimensions) of {record.columns:,} weights; layer sparsity "
        f"{percent(record.sparsity, 4)}. Layer quality ({record.quality_measure}): {number(record.uniform_quality, 5)} "
        f"uniform, {number(record.realised_quality, 5)} as pruned, over {record.vectors:,} calibration vectors."
    )
    yield Chart(gini_histogram(layer.gini), "Histogram of the Gini coefficients of the rows")
    extremes = [int(np.argmin(record.row_sparsity)), int(np.argmax(record.row_sparsity))]
    statistics = cosine_statistics(
        layer.cosine_curves, layer.sparsity_grid, layer.target, layer.cosines, rows=extremes
    )
    yield Chart(
        cosine_figure(statistics),
        "Cosine similarity against row sparsity, with the rows pruned least and most",
    )
    sparsities = row_sparsity_statistics(layer.allocations)
    yield Chart(row_sparsity_histogram(sparsities), "Histogram of row sparsities")
    if layer.search is not None:
        yield Chart(rate_figure(layer.search.trace), "Best layer quality of each learning rate")
    yield Fold(
        f"More of layer {name}: after pruning, rows in order, what goes with sparsity",
        tuple(_rest(layer, record)),
    )


def _rest(layer: LayerView, record: LayerRecord) -> Iterator[Chart]:
    after = cosine_distribution(layer.cosines, record.dead_rows)
    yield Chart(cosine_histogram(after), "Histogram of the rows' cosines after pruning")
    sparsities = row_sparsity_statistics(layer.allocations)
    yield Chart(sorted_row_sparsity(sparsities), "Rows by ascending sparsity")
    yield Chart(row_sparsity_ecdf(sparsities), "Empirical distribution of row sparsities")
    if record.allocation != "uniform":
        for quantity, values in (
            ("gini", record.gini),
            ("weight_norm", record.weight_norm),
            ("cosine", record.cosine_uniform),
        ):
            scatter = row_scatter(layer.own, quantity, values)
            yield Chart(row_scatter_figure([scatter]), f"Row sparsity against {quantity.replace('_', ' ')}")
    if layer.search is not None:
        trace = layer.search.trace
        yield Chart(iteration_figure(trace), "Layer quality and row variance at each iteration")
        yield Chart(landscape_figure(trace), "Gain over uniform by learning rate and iteration")


def _layer_table(shown: ModelMap) -> Table:
    columns = (
        "layer",
        "layer sparsity",
        "median Gini",
        "quality, uniform",
        "quality, as pruned",
        "learning rate",
    )
    rows = tuple(
        (
            facts.name,
            percent(facts.layer_sparsity, 4),
            _number(facts.median_gini, 4),
            _number(facts.uniform_quality, 6),
            _number(facts.realised_quality, 6),
            "not searched"
            if facts.outcome is None
            else "none"
            if facts.learning_rate is None
            else rate_label(facts.learning_rate),
        )
        for facts in shown.layers
    )
    return Table(
        f"{len(rows):,} layers; quality: {shown.quality_measure}, at exact counts", columns, rows, folded=True
    )


def _number(value: float, digits: int) -> str:
    return "none" if np.isnan(value) else number(value, digits)


def _settings(run: Run) -> Iterator[Part]:
    yield Paragraph("Made again by:")
    yield Paragraph(SEMINAR.without_paths(reproduce(run)), code=True)
    yield settings_table("run", run, run.settings)


def settings_table(kind: str, stored: StoredFolder, settings: dict) -> Table:
    """Return the table of all settings of a run or a recovery."""
    rows = [(kind, stored.id), ("fingerprint", stored.fingerprint), *_flat(settings)]
    return Table("Every setting, the machine and the versions", ("", ""), tuple(rows), folded=True)


def _flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """List nested settings with their full names; in a seminar without paths of the server."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}, ")
        else:
            yield f"{prefix}{key}", SEMINAR.without_paths(str(value))
