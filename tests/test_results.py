"""The README's table of perplexities, and the page of all of them, say what the results in the repository say."""

import json
from pathlib import Path

from benchmarks.quality_table import grouped, page, question_methods, question_refit, results
from trim.evaluation.entries import format_perplexity
from trim.sweeps.results import geometric_mean

ROOT = Path(__file__).parents[1]
MODELS = ("SmolLM2-135M", "Qwen2.5-Coder-0.5B")
ROWS = {
    "Wanda": (question_methods, "Wanda in uniform budgets"),
    "TRIM": (question_methods, "TRIM in uniform budgets"),
    "OWL + TRIM": (question_methods, "TRIM in OWL budgets"),
    "AlphaPruning + TRIM": (question_methods, "TRIM in AlphaPruning budgets"),
    "optimal (ours)": (question_methods, "optimal in optimal budgets"),
    "optimal, refitted (ours)": (question_refit, "optimal in optimal budgets"),
}


def test_readme_table():
    table = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if cells[0] in ROWS and len(cells) == 9:
            table[cells[0]] = cells[1:]
    assert list(table) == list(ROWS)
    for place, model in enumerate(MODELS):
        content = json.loads((ROOT / f"benchmarks/results/quality-{model}.json").read_text(encoding="utf-8"))
        for said, (question, name) in ROWS.items():
            points = grouped(content["rows"], question, 0)[name]
            for target, cell in zip((0.5, 0.6, 0.7, 0.8), table[said][4 * place :], strict=False):
                assert len(points[target]) == 3  # seeds
                mean = geometric_mean(points[target])
                shown = float(cell.replace(",", ""))
                digits = len(cell.partition(".")[2])
                assert round(mean, digits) == shown, (model, said, target, format_perplexity(mean))


def test_tables_of_solved_weights():
    """Both pages say what `benchmarks/results/float32` says, on one text or both."""
    (content,) = results(ROOT / "benchmarks/results/float32")
    texts = [grouped(content["rows"], question_refit, text) for text in (0, 1)]
    for page_name, count in (("README.md", 3), ("docs/optimal.md", 4)):
        seen = 0
        for line in (ROOT / page_name).read_text(encoding="utf-8").splitlines():
            name, *cells = (cell.strip(" *") for cell in line.strip("|").split("|"))
            if name not in texts[0] or len(cells) != 4:
                continue
            seen += 1
            for target, cell in zip((0.5, 0.6, 0.7, 0.8), cells, strict=True):
                for text, said in enumerate(cell.rstrip(")").split(" (")):
                    (value,) = texts[text][name][target]
                    digits = len(said.partition(".")[2])
                    assert round(value, digits) == float(said.replace(",", "")), (page_name, name, target)
        assert seen == count


def test_page_of_all_tables():
    said = (ROOT / "docs/quality.md").read_text(encoding="utf-8")
    assert said == page(results(ROOT / "benchmarks/results")), (
        "make it anew: python -m benchmarks.quality_table > docs/quality.md"
    )
