"""Perplexity against sparsity of stored sweeps, as the figure takes it."""

from collections.abc import Sequence

from diagnostics.figures.perplexity_curves import PerplexityCurve
from trim.sweep import Sweep
from trim.sweep_results import results


def texts(sweeps: Sequence[Sweep]) -> list[str]:
    """The texts that sweeps were measured on, each once, in words that tell them apart."""
    return list(dict.fromkeys(_said(text) for sweep in sweeps for text in _results(sweep)["texts"]))


def curves(sweeps: Sequence[Sweep], text: str) -> tuple[list[PerplexityCurve], float | None]:
    """Every method's curve on that text, and the dense model's perplexity where one was measured there."""
    found, dense = [], None
    for sweep in sweeps:
        read = _results(sweep)
        for place, said in enumerate(read["texts"]):
            if _said(said) != text:
                continue
            if dense is None and said["dense_perplexity"] is not None:
                dense = float(said["dense_perplexity"])
            found += [_curve(line) for line in read["curves"] if line["text"] == place and line["sparsity"]]
    return found, dense


def _results(sweep: Sweep) -> dict:
    return results(sweep, sweep.outcomes())


def _said(text: dict) -> str:
    return f"{text['corpus']}, {text['windows']:,} windows of {text['length']:,} tokens"


def _curve(line: dict) -> PerplexityCurve:
    numbers = {name: tuple(map(float, line[name])) for name in ("perplexity", "least", "most")}
    return PerplexityCurve(line["label"], line["method"]["allocation"], tuple(line["sparsity"]), **numbers)
