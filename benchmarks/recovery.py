"""Perplexity of pruned models before and after a recovery of some minutes.

    python -m benchmarks.recovery MODEL --calibration valid.txt --evaluation test.txt demo --out runs/recovery-MODEL

Models are pruned as in `benchmarks.quality`: mask and weights solved together in optimal budgets, calibrated on 128
windows of 1,024 tokens; with --tune, each block's kept weights are tuned. Then each is trained to predict what the
dense model predicts (`trim recover`), on text of the calibration part and on what the dense model writes, and measured
on the first 96 windows of 1,024 tokens of each text, 64 of the speeches. The same command goes on where it was
stopped; each result is added to benchmarks/results/recovery-MODEL.json (--results) as soon as it is there.

The minutes are those of sampling, training and held-out windows; `seconds` are all of it, with loading and writing.
The limit to measure against is the dense model's perplexity. Prints one JSON line last.
"""

import argparse
import json
import time
from pathlib import Path

import trim
from benchmarks.quality import evaluation_text, quality_parser
from benchmarks.script import print_report
from trim.evaluation.workbench import Workbench
from trim.runs.fields import number_to_json
from trim.runs.json_files import now, write_json
from trim.runs.options import options
from trim.runs.recover_settings import RecoverSettings


def main() -> None:
    """Run the benchmark."""
    parser = quality_parser(__doc__)
    parser.add_argument("--targets", type=float, nargs="+", default=(0.7, 0.8))
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--minutes", type=float, nargs="*", default=(1.0,), help="none: only prune")
    parser.add_argument("--tune", action="store_true", help="prune with each block's kept weights tuned")
    parser.add_argument("--set", nargs="*", default=(), metavar="OPTION=VALUE", help="other options")
    chosen = parser.parse_args()

    begin = time.perf_counter()
    name = chosen.name or Path(chosen.model).name
    path = chosen.results / f"recovery-{name}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"model": name, "rows": []}
    texts = [evaluation_text(text, chosen) for text in chosen.evaluation]
    declared = options(RecoverSettings)
    given = dict(pair.split("=", 1) for pair in chosen.set)
    more = {key: declared[key].kind(value) for key, value in given.items()}
    for target in chosen.targets:
        for seed in chosen.seeds:
            run = prune_once(chosen, target, seed)
            for minutes in chosen.minutes:
                row = recover_once(chosen, run, texts, minutes, {"seed": seed, **more})
                same = ("target", "minutes", "tuned", "options")
                rows = [each for each in content["rows"] if any(each[key] != row[key] for key in same)]
                content["rows"] = sorted(
                    [*rows, row], key=lambda each: json.dumps([each[key] for key in same])
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, content)
                print(json.dumps(row), flush=True)
    print_report(
        "recovery", model=name, rows=len(content["rows"]), seconds=round(time.perf_counter() - begin)
    )


def prune_once(chosen: argparse.Namespace, target: float, seed: int) -> trim.Run:
    """Prune the model, or resume or open the existing run."""
    out = chosen.out / f"{'tuned' if chosen.tune else 'solved'}-{target:g}-{seed}"
    if (out / "config.json").exists():
        return trim.resume(out)
    return trim.prune(
        chosen.model,
        out,
        corpus=chosen.calibration,
        target=target,
        allocation="solved",
        budget="optimal",
        tune=chosen.tune,
        windows=chosen.windows,
        length=chosen.length,
        vectors_per_sequence=4,
        seed=seed,
        device=chosen.device,
    )


def recover_once(
    chosen: argparse.Namespace,
    run: trim.Run,
    texts: list[trim.EvaluationText],
    minutes: float,
    settings: dict[str, object],
) -> dict:
    """Recover a run and measure it before and after; return a row of the results."""
    marks = "-".join(f"{key}{value}" for key, value in settings.items())
    out = chosen.out / f"{run.id}-{minutes:g}min-{marks}"
    if (out / "recovery.json").exists():
        recovery = trim.resume_recovery(out)
    else:
        recovery = trim.recover(run.path, out, minutes=minutes, device=chosen.device, **settings)
    workbench = Workbench(device=chosen.device)
    before, after = (
        [number_to_json(each.result.perplexity) for each in trim.evaluate(path, texts, workbench=workbench)]
        for path in (run.path, recovery.path)
    )
    metrics, record = recovery.metrics, recovery.record
    return {
        "target": run.request.target,
        "minutes": minutes,
        "tuned": run.request.tune,
        "options": settings,
        "texts": [[Path(text.corpus).name, text.windows, text.length] for text in texts],
        "pruned": before,
        "recovered": after,
        "sparsity": metrics["sparsity"],
        "steps": metrics["steps"],
        "tokens": metrics["tokens"],
        "sampled_tokens": metrics["sampled"] * record.text.length,
        "training_seconds": round(metrics["training_seconds"], 1),
        "seconds": round(metrics["seconds"], 1),
        "curve": [{key: float(f"{value:.5g}") for key, value in each.items()} for each in metrics["curve"]],
        "learning_rate": record.request.learning_rate,
        "batch": record.request.batch,
        "device": record.compute.device_name,
        "dtype": record.compute.dtype,
        "versions": record.versions,
        "date": now()[:10],
    }


if __name__ == "__main__":
    main()
