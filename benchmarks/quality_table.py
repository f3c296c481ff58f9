"""Tables and figures of the results of `benchmarks.quality`.

    python -m benchmarks.quality_table                              a page of tables (Markdown): docs/quality.md
    python -m benchmarks.quality_table --figures docs/pictures      and quality-MODEL.svg, drawn by Chromium

Perplexities are geometric means over seeds, with the minimum and maximum in brackets if there are several.
"""

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import plotly.graph_objects as go

from benchmarks.script import script_parser
from diagnostics.figures.perplexity import PerplexityCurve, perplexity_curves_figure
from trim.evaluation.entries import format_perplexity
from trim.methods.choices import SOLVERS
from trim.sweeps.results import geometric_mean

Row = dict
ALLOCATIONS = {
    "uniform": "Wanda",
    "trim": "TRIM",
    "optimal": "optimal",
    "solved": "solved",
    "alps": "ALPS",
    "sparsegpt": "SparseGPT",
}
BUDGETS = {"uniform": "uniform", "owl": "OWL", "alphapruning": "AlphaPruning", "optimal": "optimal"}
DEFAULTS = {"owl_width": 0.08, "owl_multiple": 5.0, "alpha_width": 0.3, "alpha_fit": "alpha_peak"}


def method_name(row: Row) -> str:
    """Return the name of a method, such as TRIM in OWL budgets."""
    method = row["method"]
    first = "magnitude" if method.get("score") == "magnitude" else ALLOCATIONS[method["allocation"]]
    tuned = ", tuned," if method.get("tune") else ""
    return f"{first}{tuned} in {BUDGETS[method['budget']]} budgets"


def is_usual(row: Row) -> bool:
    """Return whether a method has the usual parameters of budgets."""
    return all(row["method"].get(name, value) == value for name, value in DEFAULTS.items())


def is_plain(row: Row) -> bool:
    """Return whether a method is usual, with row weights and the complete solver, without input recalculation."""
    method = row["method"]
    complete = method.get("row_weights", "fisher") == "fisher" and not method.get("without")
    return is_usual(row) and not method.get("recalculate_inputs") and complete


def changes_weights(row: Row) -> bool:
    """Return whether a method refits or solves kept weights."""
    return bool(row["method"].get("refit")) or row["method"]["allocation"] in SOLVERS


def question_methods(row: Row) -> str | None:
    """Compare the methods at 4 input vectors per window, the kept weights unchanged."""
    if not changes_weights(row) and is_plain(row) and row["method"].get("vectors_per_sequence", 4) == 4:
        return method_name(row)
    return None


def question_refit(row: Row) -> str | None:
    """Compare the methods that change the kept weights."""
    return method_name(row) if changes_weights(row) and is_plain(row) else None


def question_ingredients(row: Row) -> str | None:
    """Compare what the solver is made of: the shared price is left out in uniform budgets; seed 0."""
    method = row["method"]
    if method["allocation"] != "solved" or method.get("seed", 0) or method.get("tune"):
        return None
    left_out = set(method.get("without", ()))
    if method["budget"] == "uniform":
        left_out = left_out - {"halving"} | {"price"}
    return f"without {', '.join(sorted(left_out))}" if left_out else "solved, everything"


def question_inputs(row: Row) -> str | None:
    """Compare more input vectors and recalculated inputs; one seed."""
    method = row["method"]
    if (
        not is_usual(row)
        or changes_weights(row)
        or method["budget"] == "optimal"
        or method["allocation"] == "optimal"
        or method.get("seed", 0)
    ):
        return None
    vectors = method.get("vectors_per_sequence")
    if method.get("score") == "magnitude" or vectors == 4:
        return None
    parts = [method_name(row)]
    if vectors:
        parts.append(f"{vectors} vector{'s' if vectors > 1 else ''}")
    if method.get("recalculate_inputs"):
        parts.append("recalculated")
    return ", ".join(parts)


def question_parameters(row: Row) -> str | None:
    """Compare Wanda and TRIM in OWL and AlphaPruning budgets of other parameters."""
    method = row["method"]
    if method["allocation"] == "optimal" or method.get("score") == "magnitude":
        return None
    if method.get("vectors_per_sequence", 4) != 4 or method.get("recalculate_inputs") or changes_weights(row):
        return None
    rows = ALLOCATIONS[method["allocation"]]
    if method["budget"] == "owl":
        return f"OWL + {rows}, λ {method['owl_width']:g}, M {method['owl_multiple']:g}"
    if method["budget"] != "alphapruning":
        return None
    fit = "" if method["alpha_fit"] == DEFAULTS["alpha_fit"] else f", {method['alpha_fit']}"
    return f"AlphaPruning + {rows}, ε {method['alpha_width']:g}{fit}"


QUESTIONS: dict[str, Callable[[Row], str | None]] = {
    "Methods": question_methods,
    "Kept weights refitted, solved, or tuned": question_refit,
    "Ingredients of the solver": question_ingredients,
    "Input vectors and recalculated inputs": question_inputs,
    "Parameters of the budgets": question_parameters,
}


def group_rows(
    rows: Sequence[Row], name_of: Callable[[Row], str | None], text: int
) -> dict[str, dict[float, list[float]]]:
    """Group perplexities over seeds by method and target."""
    groups: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        if name := name_of(row):
            points = groups.setdefault(name, {})
            points.setdefault(row["method"]["target"], []).append(float(row["perplexity"][text]))
    return groups


def table(groups: dict[str, dict[float, list[float]]], targets: Sequence[float]) -> str:
    """Return a Markdown table: a line for each method, a column for each sparsity, its best value in bold."""
    means = {
        (name, target): geometric_mean(points[target])
        for name, points in groups.items()
        for target in targets
        if target in points
    }
    best = {target: min(value for (_, at), value in means.items() if at == target) for target in targets}
    lines = ["| model sparsity | " + " | ".join(f"{target:.0%}" for target in targets) + " |"]
    lines.append("|---" * (len(targets) + 1) + "|")
    for name, points in groups.items():
        cells = []
        for target in targets:
            if target not in points:
                cells.append("–")
                continue
            mean, values = means[name, target], points[target]
            cell = format_perplexity(mean)
            if mean == best[target]:
                cell = f"**{cell}**"
            if len(values) > 1:
                cell += f" ({format_perplexity(min(values))}–{format_perplexity(max(values))})"
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


INTRODUCTION = """# Perplexities of every method

Made by `python -m benchmarks.quality_table` of the results in `benchmarks/results`, which `python -m
benchmarks.quality` measures. Calibrated on {calibration}, {windows} windows of {length:,} tokens drawn by the seed;
Wanda's scores unless said otherwise; {devices}, {dtype}, torch {torch}, transformers {transformers}; last measured
{date}. Geometric means where there are several seeds, with the least and the most in brackets; the best of each column
in bold.
*demo* are the demo's speeches, another domain than the calibration text. Above some hundreds a single perplexity means
little. The command measures more than there is here: OWL's λ 0.05, 0.08, 0.12 and 0.2, each with M 5 and M 7, at every
sparsity. A missing row or a – has not been measured.
"""


def page(contents: Sequence[dict]) -> str:
    """Return the page of all tables, with the protocol."""
    rows = [row for content in contents for row in content["rows"]]
    protocol = contents[0]["protocol"]
    shared = ("calibration", "dtype", "torch", "transformers")
    assert all(content["protocol"][key] == protocol[key] for content in contents for key in shared)
    corpus, windows, length = protocol["calibration"]
    parts = [
        INTRODUCTION.format(
            **{key: protocol[key] for key in ("dtype", "torch", "transformers")},
            devices=" and ".join(sorted({row["device"] for row in rows})),
            calibration=corpus,
            windows=windows,
            length=length,
            date=max(row["date"] for row in rows),
        )
    ]
    for content in contents:
        protocol = content["protocol"]
        parts.append(f"## {protocol['model']}\n")
        for title, name_of in QUESTIONS.items():
            for text, (corpus, windows, length) in enumerate(protocol["evaluation"]):
                groups = group_rows(content["rows"], name_of, text)
                if len(groups) < 2:  # nothing to compare
                    continue
                targets = sorted({target for points in groups.values() for target in points})
                dense = format_perplexity(float(protocol["dense_perplexity"][text]))
                parts.append(f"### {title}, {corpus}: {windows} windows of {length:,}, dense {dense}\n")
                parts.append(table(groups, targets) + "\n")
    return "\n".join(parts)


def results(folder: Path) -> list[dict]:
    """Read the measurements, by model."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("quality-*.json"))]


DRAWN = [
    (question_methods, "Wanda in uniform budgets", "Wanda, uniform", "uniform"),
    (question_methods, "TRIM in uniform budgets", "TRIM", "trim"),
    (question_methods, "TRIM in OWL budgets", "OWL + TRIM", "trim"),
    (question_methods, "TRIM in AlphaPruning budgets", "AlphaPruning + TRIM", "trim"),
    (question_methods, "optimal in optimal budgets", "optimal", "optimal"),
    (question_refit, "optimal in optimal budgets", "optimal, refitted", "optimal"),
    (question_refit, "solved in optimal budgets", "solved", "solved"),
]


def figure(content: dict, targets: Sequence[float]) -> go.Figure:
    """Make the figure of perplexity against model sparsity on the first text."""
    curves = []
    for question, name, label, method in DRAWN:
        points = group_rows(content["rows"], question, 0)[name]
        values = [points[target] for target in targets]
        curves.append(
            PerplexityCurve(
                label,
                method,
                tuple(targets),
                tuple(map(geometric_mean, values)),
                tuple(map(min, values)),
                tuple(map(max, values)),
            )
        )
    protocol = content["protocol"]
    drawn = perplexity_curves_figure(
        curves, protocol["dense_perplexity"][0], f"{protocol['model']}, WikiText-2 test, three seeds"
    )
    return drawn.update_layout(width=760)


def draw(figures: dict[Path, go.Figure]) -> None:
    """Write each figure as SVG, drawn by Chromium.

    Raises:
        SystemExit: there is no Chromium, or no playwright to drive it.
    """
    try:
        from benchmarks.browser import open_browser
    except ImportError:
        raise SystemExit("figures are drawn by playwright: pip install -r tests/requirements.txt") from None
    with open_browser() as browser, tempfile.TemporaryDirectory() as folder:
        page = browser.new_page()
        for path, content in figures.items():
            file = Path(folder) / "figure.html"
            content.write_html(file, include_plotlyjs=True, div_id="figure")
            page.goto(file.as_uri())
            size = {"format": "svg", "width": content.layout.width, "height": content.layout.height}
            url = page.evaluate("size => Plotly.toImage(document.getElementById('figure'), size)", size)
            header, _, data = url.partition(",")
            path.write_bytes(base64.b64decode(data) if "base64" in header else unquote(data).encode())


def main() -> None:
    """Print the tables, and draw the figures if asked."""
    parser = script_parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="also draw the figures")
    chosen = parser.parse_args()
    contents = results(chosen.results)
    if not contents:
        raise SystemExit(f"{chosen.results} holds no results; make some with: python -m benchmarks.quality")
    print(page(contents), end="")
    if chosen.figures:
        draw(
            {
                chosen.figures / f"quality-{content['protocol']['model']}.svg": figure(
                    content, (0.5, 0.6, 0.7, 0.8)
                )
                for content in contents
            }
        )


if __name__ == "__main__":
    main()
