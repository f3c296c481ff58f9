"""The README's tables of perplexities, and the page of all of them, say what the results in the repository say."""

import json
from pathlib import Path

from benchmarks.quality_table import (
    group_rows,
    page,
    question_ingredients,
    question_methods,
    question_parameters,
    question_refit,
    results,
)
from trim.sweeps.results import geometric_mean

ROOT = Path(__file__).parents[1]
MODELS = ("SmolLM2-135M", "Qwen2.5-Coder-0.5B")
TARGETS = (0.5, 0.6, 0.7, 0.8)
# Rows of both tables, in order.
ROWS = {
    "Wanda": (question_methods, "Wanda in uniform budgets"),
    "TRIM": (question_methods, "TRIM in uniform budgets"),
    "OWL + TRIM": (question_methods, "TRIM in OWL budgets"),
    "OWL + TRIM, λ 0.05, M 7¹": (question_parameters, "OWL + TRIM, λ 0.05, M 7"),
    "AlphaPruning + TRIM": (question_methods, "TRIM in AlphaPruning budgets"),
    "optimal (ours)": (question_methods, "optimal in optimal budgets"),
    "Wanda, refitted": (question_refit, "Wanda in uniform budgets"),
    "TRIM, refitted": (question_refit, "TRIM in uniform budgets"),
    "SparseGPT": (question_refit, "SparseGPT in uniform budgets"),
    "ALPS": (question_refit, "ALPS in uniform budgets"),
    "optimal, refitted (ours)": (question_refit, "optimal in optimal budgets"),
    "solved (ours)": (question_refit, "solved in optimal budgets"),
    "solved, tuned (ours)": (question_refit, "solved, tuned, in optimal budgets"),
}
SEEDS = {"¹": 2, "²": 1}  # marked at a cell or a row; three elsewhere


def same(values, written):
    """Return whether a cell is the mean of some values, in as many digits as it has."""
    digits = len(written.partition(".")[2])
    return round(geometric_mean(values), digits) == float(written.replace(",", ""))


def cells_of(line):
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


def content_of(name):
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))


def test_readme_tables():
    lines = map(cells_of, (ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    tables = {cells[0]: cells[1:] for cells in lines if cells[0] in ROWS and len(cells) == 9}
    assert list(tables) == list(ROWS)
    for place, model in enumerate(MODELS):
        for name, (question, group) in ROWS.items():
            if (name, model) == ("AlphaPruning + TRIM", MODELS[1]):
                question, group = question_parameters, "AlphaPruning + TRIM, ε 0.1"
            points = group_rows(content_of(f"quality-{model}")["rows"], question, 0).get(group, {})
            for target, cell in zip(TARGETS, tables[name][4 * place :], strict=False):
                if cell == "–":
                    assert target not in points, (model, name, target)
                    continue
                values = points[target]
                assert len(values) == SEEDS.get(cell[-1], SEEDS.get(name[-1], 3)), (model, name, target)
                assert same(values, cell.rstrip("¹²")), (model, name, target)


def test_tables_of_solved_weights():
    """The page of the optimal method says what the results say, on both texts."""
    lines = map(cells_of, (ROOT / "docs/optimal.md").read_text(encoding="utf-8").splitlines())
    rows = {model: content_of(f"quality-{model}")["rows"] for model in MODELS}
    # By how many targets, the last ones, a table has.
    tables, model, seen = {4: question_refit, 2: question_ingredients}, MODELS[0], 0
    for name, *cells in lines:
        model = next((each for each in MODELS if name.startswith(each)), model)
        if (question := tables.get(len(cells))) is None:
            continue
        of_text = [
            group_rows(rows[model if len(cells) == 4 else MODELS[0]], question, text) for text in (0, 1)
        ]
        if name not in of_text[0]:
            continue
        seen += 1
        for target, cell in zip(TARGETS[-len(cells) :], cells, strict=True):
            if cell == "–":
                assert target not in of_text[0][name], (name, target)
                continue
            for found, written in zip(of_text, cell.rstrip("¹").rstrip(")").split(" ("), strict=True):
                assert same(found[name][target], written), (model, name, target)
    assert seen == 30


def test_page_of_all_tables():
    written = (ROOT / "docs/quality.md").read_text(encoding="utf-8")
    assert written == page(results(ROOT / "benchmarks/results")), (
        "make it anew: python -m benchmarks.quality_table > docs/quality.md"
    )


def test_tables_of_recoveries():
    lines = list(map(cells_of, (ROOT / "docs/recover.md").read_text(encoding="utf-8").splitlines()))
    seen = 0
    for model in ("SmolLM2-135M", "Qwen2.5-Coder-0.5B"):
        rows = [
            row
            for row in content_of(f"recovery-{model}")["rows"]
            if row["options"].get("learning_rate") != 0.0011
        ]
        (first,) = (n for n, line in enumerate(lines) if line[0] == model and line[1] != "sparsity")
        for name, key in (("solved, tuned", "pruned"), ("recovered", "recovered")):
            (cells,) = (line for line in lines[first : first + 5] if line[0] == name)
            for column, cell in list(zip(lines[first], cells, strict=True))[1:]:
                minutes = 5 if column.endswith("seed 0") else 1
                target = float(column.partition("%")[0]) / 100
                found = [row[key] for row in rows if (row["target"], row["minutes"]) == (target, minutes)]
                assert column.endswith("seed 0") or column.split()[1] == str(len(found))
                test, speeches = cell.removesuffix(", 5 minutes").rstrip(")").split(" (")
                assert same([each[0] for each in found], test)
                assert same([each[1] for each in found], speeches)
                seen += 1
    assert seen == 14


def test_table_of_zero_shot_accuracies():
    lines = map(cells_of, (ROOT / "docs/recover.md").read_text(encoding="utf-8").splitlines())
    printed_lines = [line for line in lines if len(line) == 11 and line[2][:1].isdigit()]
    rows = [
        row
        for model in ("SmolLM2-135M", "Qwen2.5-Coder-0.5B")
        for row in content_of(f"zero-shot-{model}")["rows"]
    ]
    assert len(printed_lines) == len(rows) == 20
    for cells, row in zip(printed_lines, rows, strict=True):
        found = row["tasks"]
        assert cells[2:9] == [f"{100 * task['accuracy']:.1f}" for task in found]
        for cell, tasks in ((cells[9], found), (cells[10], found[1:])):
            mean = 100 * sum(task["accuracy"] for task in tasks) / len(tasks)
            error = 100 * sum(task["standard_error"] ** 2 for task in tasks) ** 0.5 / len(tasks)
            assert cell == f"{mean:.1f} ± {error:.1f}"


def test_peers_agree_with_their_authors_classes():
    """ALPS's masks do in float64 alone: in float32 those of its class differ as far from its own in float64."""
    single, double = content_of("peers"), content_of("peers-float64")
    for found in (single["sparsegpt"], double["sparsegpt"], {**single["alps"], "masks_agree": 1}):
        assert found["masks_agree"] >= 0.999
        assert 0.99 < found["error_least"] <= found["error_most"] < 1.01
    alps = double["alps"]
    assert alps["masks_agree_float64"] >= 0.999
    assert abs(alps["error_most_float64"] - 1) < 1e-9
    assert alps["theirs_agree_with_float64"] <= alps["masks_agree"] + 0.001
