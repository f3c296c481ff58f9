"""The commands `evaluate` and `generate`: their options, and their tables on the terminal."""

import argparse
import json
import math
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from trim.cli.options import Commands, add_json, add_machine, refuse
from trim.cli.terminal import Terminal
from trim.errors import SettingsError
from trim.evaluation.entries import format_bos, format_perplexity
from trim.evaluation.settings import EvaluationText, Sampling
from trim.names import counted, one_line
from trim.progress import Progress
from trim.runs.folder import is_run, open_run
from trim.runs.places import require_storable
from trim.runs.recovery import is_recovery
from trim.runs.writer import update_metrics

if TYPE_CHECKING:
    from trim.evaluation.workbench import Workbench

_EVALUATE = """\
Measure how well models predict a text, and how well they answer zero-shot tasks.

A target is a model ("demo", a Hub id, a folder, a GGUF file), a folder that `export` wrote, a recovery, or a run, whose
masks are applied to its model in memory; what is measured of a run or a recovery is also written into its
metrics.json."""

_EVALUATE_EXAMPLES = """\
examples:
  how much two runs lose
    %(prog)s demo runs/first runs/second
  WikiText-2 as in the papers: its whole test part in windows of 2,048 tokens
    %(prog)s runs/first --corpus wikitext2
  a file that is nothing but evaluation text, its first 96 windows of 1,024 tokens
    %(prog)s runs/first --corpus test.txt --whole-text --windows 96 --length 1024
  accuracy on zero-shot tasks (needs: pip install 'trim-lab[zero-shot]')
    %(prog)s demo runs/first --tasks boolq rte arc_easy

perplexity: exp of the mean negative log-likelihood per token, over length − 1 predictions in each window."""

_GENERATE = """\
Let models and runs continue one prompt, side by side. Targets are those of `evaluate`."""


def add_evaluate(commands: Commands) -> None:
    """Add `evaluate` to the commands."""
    parser = commands.add_parser(
        "evaluate",
        help="perplexity and zero-shot accuracy of models and runs",
        description=_EVALUATE,
        epilog=_EVALUATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="a model, an exported folder, or a run")
    add_text_options(parser.add_argument_group("perplexity"))
    tasks = parser.add_argument_group("zero-shot tasks")
    tasks.add_argument(
        "--tasks",
        nargs="*",
        metavar="NAME",
        help="measure tasks instead; without names the seven of the papers",
    )
    tasks.add_argument("--limit", type=int, metavar="N", help="the most examples of each task (default: all)")
    tasks.add_argument("--task-folder", metavar="DIR", help="task files (YAML) of your own")
    _add_machine(parser)
    add_json(parser)
    parser.set_defaults(work=_evaluate)


def add_generate(commands: Commands) -> None:
    """Add `generate` to the commands."""
    parser = commands.add_parser(
        "generate",
        help="one prompt continued by several models and runs",
        description=_GENERATE,
        epilog='example: %(prog)s --prompt "The state of our Union is" demo runs/first',
    )
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="a model, an exported folder, or a run")
    parser.add_argument("--prompt", required=True, help="the text to continue")
    parser.add_argument(
        "--new-tokens", type=int, default=Sampling.new_tokens, metavar="N", help="how many at most"
    )
    parser.add_argument(
        "--temperature", type=float, default=Sampling.temperature, help="0: the most probable token (default)"
    )
    parser.add_argument("--seed", type=int, default=Sampling.seed, help="decides the draws (default: 0)")
    _add_machine(parser)
    add_json(parser)
    parser.set_defaults(work=_generate)


def add_text_options(group: argparse._ArgumentGroup, *, prefix: str = "") -> None:
    """Add --corpus, --windows, --length and --whole-text of an evaluation text, and --no-bos if there is no prefix.

    Args:
        group: the group to add them to.
        prefix: begins the first three names where the command has a calibration text too, such as "evaluation-".
    """
    group.add_argument(
        f"--{prefix}corpus",
        nargs="+",
        metavar="CORPUS",
        help="demo, wikitext2, c4, or .txt, .jsonl or .parquet files (default: "
        + ("the evaluation part of the calibration text)" if prefix else "demo)"),
    )
    group.add_argument(f"--{prefix}windows", type=int, metavar="N", help="only the first N (default: all)")
    group.add_argument(
        f"--{prefix}length",
        type=int,
        metavar="N",
        help="tokens in a window (default: 2,048, or the model's context where that is shorter)",
    )
    group.add_argument(
        "--whole-text", action="store_true", help="read all of a file, not only its part for evaluation"
    )
    if not prefix:  # otherwise the option of the calibration text also applies to the evaluation texts
        group.add_argument(
            "--no-bos",
            dest="bos",
            action="store_false",
            help="do not begin each window with the tokenizer's beginning-of-text token (BOS); the text begins with it "
            "once, as in the published protocols",
        )


def chosen_texts(chosen: argparse.Namespace, *, bos: bool, prefix: str = "") -> tuple[EvaluationText, ...]:
    """Return the evaluation texts of `add_text_options`; `bos`: whether each window begins with BOS."""
    corpora, windows, length = (
        getattr(chosen, f"{prefix}{name}".replace("-", "_")) for name in ("corpus", "windows", "length")
    )
    return tuple(EvaluationText(corpus, windows, length, chosen.whole_text, bos) for corpus in corpora)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = add_machine(parser, "device", "dtype", "batch")
    group.add_argument("--model", metavar="MODEL", help="apply the runs to this model of the same shape")


def _workbench(chosen: argparse.Namespace) -> "Workbench":
    if chosen.batch is not None and chosen.batch < 1:
        raise SettingsError(f"a batch needs at least one window, not {chosen.batch}")
    from trim.evaluation.workbench import Workbench

    return Workbench(device=chosen.device, dtype=chosen.dtype, progress=_terminal().progress)


def _check_targets(chosen: argparse.Namespace) -> None:
    """Refuse a missing model, an incomplete run or a changed model before the first target is measured."""
    from trim.evaluation.workbench import model_source
    from trim.models.source import locate
    from trim.pruning.export import require_masks

    for target in (*chosen.targets, *([] if chosen.model is None else [chosen.model])):
        if not is_run(target):
            locate(target)
            continue
        run = open_run(target)
        require_masks(run)
        if chosen.model is None and chosen.work is not _generate:
            require_storable(run.path)
        if chosen.model is None:
            model_source(run)


def _evaluate(chosen: argparse.Namespace) -> None:
    from trim.calibration.corpora import require_text
    from trim.evaluation.evaluate import evaluate
    from trim.evaluation.zero_shot import TASKS, require_tasks

    if chosen.tasks is None:
        refuse(chosen, ["limit", "task_folder"], "is an option of zero-shot tasks; name them with --tasks")
        if chosen.corpus is None:
            chosen.corpus = [EvaluationText.corpus]
        texts = chosen_texts(chosen, bos=chosen.bos)
        for text in texts:
            require_text(text.corpus)
    else:
        refuse(
            chosen,
            ["corpus", "windows", "length", "whole_text"],
            "is an option of perplexity, which --tasks replaces",
        )
        require_tasks(chosen.tasks or TASKS, chosen.limit, chosen.batch or 1, chosen.task_folder)
    workbench = _workbench(chosen)
    _check_targets(chosen)
    if chosen.tasks is not None:
        _measure_tasks(chosen, workbench)
        return
    width = max(len(target) for target in chosen.targets)
    for target in chosen.targets:
        results = evaluate(
            target,
            texts,
            model=chosen.model,
            batch=chosen.batch,
            workbench=workbench,
            progress=_terminal().progress,
        )
        for result in results:
            if chosen.json:
                print(json.dumps({"target": target, **result.to_json()}))
                continue
            measured = result.result
            undefined = (
                f", {measured.undefined_windows} without a number" if measured.undefined_windows else ""
            )
            _terminal().line(
                f"{target.ljust(width)}  perplexity {format_perplexity(measured.perplexity):>9}  "
                f"{result.text.title}, {counted(measured.windows, 'window')} of {measured.length:,} tokens"
                f"{format_bos(result.bos)}{undefined}, "
                f"{result.dtype} on {result.device}, {result.seconds:.0f} s"
            )


def _measure_tasks(chosen: argparse.Namespace, workbench: "Workbench") -> None:
    """Measure and print zero-shot accuracies, and store those of runs and recoveries."""
    from trim.evaluation.zero_shot import TASKS, zero_shot

    width = max(len(target) for target in chosen.targets)
    for target in chosen.targets:
        with workbench.opened(target, source=chosen.model) as model:
            _terminal().progress(Progress(f"Measuring the tasks on {target}"))
            results = zero_shot(
                model,
                chosen.tasks or TASKS,
                limit=chosen.limit,
                batch=chosen.batch or 1,
                folder=chosen.task_folder,
            )
        if chosen.model is None and (is_run(target) or is_recovery(target)):
            update_metrics(Path(target), {"zero_shot": [result.to_json() for result in results]})
        for result in results:
            if chosen.json:
                print(json.dumps({"target": target, **result.to_json()}))
            else:
                error = "" if math.isnan(result.standard_error) else f" ± {result.standard_error:.4f}"
                _terminal().line(
                    f"{target.ljust(width)}  {result.task:<16} accuracy {result.accuracy:.4f}{error}  "
                    f"{counted(result.examples, 'example')}"
                )


def _generate(chosen: argparse.Namespace) -> None:
    workbench = _workbench(chosen)
    from trim.evaluation.generation import continue_prompt

    sampling = Sampling(chosen.new_tokens, chosen.temperature, chosen.seed)
    _check_targets(chosen)
    written: list[tuple[str, str]] = []
    for target in chosen.targets:
        with workbench.opened(target, source=chosen.model) as model:
            _terminal().progress(Progress(f"{target} writes"))
            text = continue_prompt(model, chosen.prompt, sampling)
        if chosen.json:
            print(json.dumps({"target": target, "prompt": chosen.prompt, "continuation": text}))
        written.append((Path(target).name or target, text))
    if not chosen.json:
        _terminal().line(side_by_side(written, shutil.get_terminal_size((100, 24)).columns))


def _terminal() -> Terminal:
    """Return a terminal with its live line on stderr, as stdout holds the results and may be a file."""
    return Terminal(live=sys.stderr)


def side_by_side(columns: list[tuple[str, str]], width: int) -> str:
    """Lay out texts in columns below their titles, or one below the other if columns would be too narrow."""
    each = (width - 3 * (len(columns) - 1)) // len(columns)
    clean = [(one_line(title), _printable(text)) for title, text in columns]
    if each < 24:
        return "\n\n".join("\n".join([title, "-" * len(title), *_wrap(text, width)]) for title, text in clean)
    boxes = [[one_line(title, each), "-" * each, *_wrap(text, each)] for title, text in clean]
    height = max(map(len, boxes))
    rows = zip(*([*box, *[""] * (height - len(box))] for box in boxes), strict=True)
    return "\n".join("   ".join(cell.ljust(each) for cell in row).rstrip() for row in rows)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _wrap(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in textwrap.wrap(part, width) or [""]]
