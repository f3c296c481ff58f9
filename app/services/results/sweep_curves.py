"""Perplexity against sparsity of stored sweeps, for the figure."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from app.services.runs.layer import METHOD_LABELS
from diagnostics.figures.perplexity import PerplexityCurve
from trim.evaluation.entries import format_windows
from trim.runs.options import options
from trim.runs.settings import PruneSettings
from trim.sweeps.folder import Sweep
from trim.sweeps.results import results


def texts(sweeps: Sequence[Sweep]) -> list[str]:
    """Return the texts that sweeps were measured on, each once, with distinct names."""
    return list(dict.fromkeys(_format_text(text) for sweep in sweeps for text in _results(sweep)["texts"]))


def curves(sweeps: Sequence[Sweep], text: str) -> tuple[list[PerplexityCurve], float | None]:
    """Return every method's curve on a text, and the dense model's perplexity if it was measured."""
    lines, dense = [], None
    for sweep in sweeps:
        read = _results(sweep)
        for index, one in enumerate(read["texts"]):
            if _format_text(one) != text:
                continue
            if dense is None and one["dense_perplexity"] is not None:
                dense = float(one["dense_perplexity"])
            lines += [line for line in read["curves"] if line["text"] == index and line["sparsity"]]
    labels = brief_labels([line["method"] for line in lines])
    named = [
        line["label"] if labels.count(brief) > 1 else brief for brief, line in zip(labels, lines, strict=True)
    ]
    return [_curve(line, label) for line, label in zip(lines, named, strict=True)], dense


def tokens_of(sweeps: Sequence[Sweep], text: str) -> set[tuple[str, str]]:
    """Return the fingerprints of the models measured on a text, with the hashes of its tokens."""
    return {
        (outcome.run.model.weights, entry["tokens_sha256"])
        for sweep in sweeps
        for outcome in sweep.outcomes()
        for described, entry in zip(_results(sweep)["texts"], outcome.perplexities, strict=True)
        if outcome.run is not None and entry is not None and _format_text(described) == text
    }


_ALLOCATIONS = METHOD_LABELS | {"uniform": "Wanda", "variant": "Wanda's variant"}
_BUDGETS = {"owl": "OWL", "alphapruning": "AlphaPruning"}
# Settings that a label does not repeat: those that begin it, and those that vary along a curve.
_FIRST = ("allocation", "budget", "seed", "target")


def brief_labels(methods: Sequence[dict]) -> list[str]:
    """Label each method by how it differs from the others: "TRIM, OWL budgets"."""

    def differs(name: str) -> bool:
        return len({method[name] for method in methods if method[name] is not None}) > 1

    labels = []
    for method in methods:
        first = _ALLOCATIONS.get(method["allocation"], method["allocation"])
        skipped = {*_FIRST}
        if method["allocation"] == "uniform":  # such a method has the name of its score
            skipped.add("score")
            if method["score"] != "wanda":
                first = method["score"].capitalize()
        parts = [first]
        same = [other for other in methods if other["allocation"] == method["allocation"]]
        if len({other["budget"] for other in same}) > 1:
            parts.append(f"{_BUDGETS.get(method['budget'], method['budget'])} budgets")
        for name, value in method.items():
            if name in skipped or value is None or value is False:
                continue
            if value is True or differs(name):
                parts.append(options(PruneSettings)[name].short.format(value))
        labels.append(", ".join(parts))
    return labels


_made: WeakKeyDictionary[Sweep, dict] = WeakKeyDictionary()


def _results(sweep: Sweep) -> dict:
    """Return the results of a stored sweep; the store makes a new object when one of its files changes."""
    content = _made.get(sweep)
    if content is None:
        content = _made[sweep] = results(sweep, sweep.outcomes())
    return content


def _format_text(text: dict) -> str:
    return format_windows(text["corpus"], text["windows"], text["length"], text.get("bos"))


def _curve(line: dict, label: str) -> PerplexityCurve:
    numbers = {name: tuple(map(float, line[name])) for name in ("perplexity", "least", "most")}
    return PerplexityCurve(label, line["method"]["allocation"], tuple(line["sparsity"]), **numbers)
