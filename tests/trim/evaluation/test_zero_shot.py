"""Zero-shot tasks: a small local one end to end, and what is said when something is missing."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

import trim
from tests.trim import rough, tiny
from trim.cli import main
from trim.evaluation.zero_shot import TASKS

harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-eval is not installed: pip install 'trim-lab[zero-shot]'",
)
# Its dependencies warn at import; what is ours is tested everywhere else.
pytestmark = pytest.mark.filterwarnings("ignore")

QUESTIONS = [
    {"question": "The sky is", "choices": ["blue", "a spoon made of wood"], "gold": 0},
    {"question": "Two and two make", "choices": ["a river in the north of it", "four"], "gold": 1},
    {"question": "Fish live in", "choices": ["water", "the month of February"], "gold": 0},
    {"question": "Snow is", "choices": ["red", "white, and it melts when the sun shines"], "gold": 1},
]
TASK = """\
task: colours_and_numbers
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: gold
doc_to_choice: choices
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task on local data."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "questions.jsonl"
    data.write_text("\n".join(map(json.dumps, QUESTIONS)))
    (folder / "colours_and_numbers.yaml").write_text(TASK.format(data=data))
    return folder


def test_without_the_harness_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(trim.SettingsError, match=r"trim-lab\[zero-shot\]"):
        trim.zero_shot(None)


@harness
def test_a_local_task(tasks, tmp_path, capsys):
    folder = tiny.folder(tmp_path / "tiny")
    model = trim.load_model(folder, device="cpu")
    (result,) = trim.zero_shot(model, ["colours_and_numbers"], folder=tasks)
    # What the harness does, by hand: the choice whose tokens are the most probable together.
    right = sum(best_choice(model, q["question"], q["choices"]) == q["gold"] for q in QUESTIONS)
    accuracy = right / len(QUESTIONS)
    assert result.accuracy == pytest.approx(accuracy)
    assert 0 < accuracy < 1
    error = (accuracy * (1 - accuracy) / (len(QUESTIONS) - 1)) ** 0.5
    assert result.standard_error == result.metrics["acc_stderr"] == pytest.approx(error)
    assert result.examples == len(QUESTIONS)
    (limited,) = trim.zero_shot(model, ["colours_and_numbers"], folder=tasks, limit=1)
    assert limited.examples == 1
    assert limited.accuracy in (0, 1)
    assert math.isnan(limited.standard_error)

    run = rough.wanda(folder, tmp_path / "run")
    asked = ["evaluate", str(run.path), "--tasks", "colours_and_numbers", "--task-folder", str(tasks)]
    assert main(asked) == 0
    (entry,) = trim.open_run(run.path).metrics["zero_shot"]
    assert entry["task"] == "colours_and_numbers"
    assert entry["examples"] == 4
    pruned = entry["accuracy"]
    assert entry["standard_error"] == pytest.approx((pruned * (1 - pruned) / 3) ** 0.5)
    assert f"accuracy {pruned:.4f} ± {entry['standard_error']:.4f}  4 examples" in capsys.readouterr().out
    assert main([*asked, "--limit", "1"]) == 0
    assert "±" not in capsys.readouterr().out


def best_choice(model: trim.Model, question: str, choices: list[str]) -> int:
    import torch

    scores = []
    for choice in choices:
        tokens = model.tokenizer(f"{question} {choice}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_probabilities = model.module(tokens).logits[0].log_softmax(-1)
        places = torch.arange(len(question) - 1, tokens.shape[1] - 1)
        scores.append(float(log_probabilities[places, tokens[0, places + 1]].sum()))
    return scores.index(max(scores))


@harness
def test_what_cannot_be_asked(tmp_path):
    model = trim.load_model(tiny.folder(tmp_path / "tiny"), device="cpu")
    with pytest.raises(trim.SettingsError, match=r"no task 'hellaswagg'.*hellaswag"):
        trim.zero_shot(model, ["hellaswagg"])
    with pytest.raises(trim.SettingsError, match="at least one task"):
        trim.zero_shot(model, [])
    with pytest.raises(trim.SettingsError, match="at least one example"):
        trim.zero_shot(model, limit=0)
    with pytest.raises(trim.SettingsError, match="no folder"):
        trim.zero_shot(model, folder=tmp_path / "missing")


@harness
def test_the_harness_has_the_seven_tasks_of_the_papers():
    from lm_eval.tasks import TaskManager

    assert set(TASKS) <= set(TaskManager().all_tasks)
