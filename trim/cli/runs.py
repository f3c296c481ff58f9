"""The commands that read runs or the cache: export, apply, inspect, cache."""

import argparse
import dataclasses
import json
import shlex
from dataclasses import asdict
from pathlib import Path

from trim import cache
from trim.cli.options import Commands, add_json, refuse
from trim.cli.recover import held_out_line
from trim.cli.terminal import Terminal
from trim.errors import RunError, SettingsError
from trim.names import counted, format_bytes, one_line
from trim.runs.folder import Run, list_runs, open_run
from trim.runs.listing import FolderEntry, runs_folder
from trim.runs.recovery import Recovery, is_recovery, list_recoveries, open_recovery
from trim.sweeps.folder import Sweep, list_sweeps, open_sweep
from trim.sweeps.results import results, results_markdown


def add_export(commands: Commands) -> None:
    """Add `export` to the commands."""
    parser = commands.add_parser(
        "export",
        help="write the pruned model as a folder for transformers",
        description="Write the pruned model of a run as a folder that plain transformers loads. Weights keep the types "
        "of the original; README.md says what was pruned.",
        epilog="example: %(prog)s runs/first pruned",
    )
    parser.add_argument("run", type=Path, help="a complete run or recovery")
    parser.add_argument("out", type=Path, help="the new folder")
    parser.set_defaults(work=_export, model=None)


def add_apply(commands: Commands) -> None:
    """Add `apply` to the commands."""
    parser = commands.add_parser(
        "apply",
        help="apply a run's masks to a model",
        description="Apply the masks of a run to a model of the same shape, for example a later checkpoint or a "
        "finetuned one, and write it as a folder that plain transformers loads.",
        epilog="example: %(prog)s runs/first ./finetuned finetuned-pruned",
    )
    parser.add_argument("run", type=Path, help="a complete run")
    parser.add_argument("model", help='"demo", a Hub id, a folder with safetensors, or a GGUF file')
    parser.add_argument("out", type=Path, help="the new folder")
    parser.set_defaults(work=_export)


def add_inspect(commands: Commands) -> None:
    """Add `inspect` to the commands."""
    parser = commands.add_parser(
        "inspect",
        help="show a run, a layer of it, a recovery, a sweep, all runs in a folder, or what can be pruned in a model",
        description="Show what a run or a sweep did. Needs neither the model nor a GPU. Given a folder of runs, lists "
        "them. Given a model, says how many layers it has and what stays dense; no weights are read.",
        epilog="examples: %(prog)s          (lists ./runs)\n"
        "          %(prog)s runs/first\n"
        "          %(prog)s runs/first --layer 15.mlp.gate_proj\n"
        "          %(prog)s --model Qwen/Qwen3-30B-A3B",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, nargs="?", help="a run, or a folder of runs (default: ./runs)")
    parser.add_argument("--layer", metavar="NAME", help="one layer, such as 15.mlp.gate_proj")
    parser.add_argument("--model", metavar="MODEL", help="a model instead of a run, as `prune` takes it")
    add_json(parser, "settings and metrics as JSON")
    parser.set_defaults(work=_inspect)


def add_cache(commands: Commands) -> None:
    """Add `cache` to the commands."""
    parser = commands.add_parser(
        "cache",
        help="show or empty the cache",
        description="Show what the cache holds: models made from GGUF files, captured activations, checksums. All of "
        "it can be made again. TRIM_CACHE moves it, TRIM_CACHE_LIMIT_BYTES bounds it.",
    )
    parser.add_argument("--empty", action="store_true", help="remove everything in it")
    parser.set_defaults(work=_cache)


def _export(chosen: argparse.Namespace) -> None:
    from trim.pruning.export import export

    terminal = Terminal()
    if is_recovery(chosen.run) and chosen.model is None:
        from trim.recovery.result import export_recovery

        out = export_recovery(open_recovery(chosen.run), chosen.out)
    else:
        out = export(chosen.run, chosen.out, model=chosen.model, progress=terminal.progress)
    terminal.line(f"{out} is written; its README.md says how transformers loads it")


def _inspect(chosen: argparse.Namespace) -> None:
    from trim.runs.summary import summary

    if chosen.model is not None:
        refuse(chosen, ["layer"], "is an option of runs; leave it out, or --model")
        if chosen.path is not None:
            raise SettingsError(f"inspect either {chosen.path} or the model {chosen.model}: leave one out")
        _inspect_model(chosen.model, chosen.json)
        return
    path = chosen.path or runs_folder()
    if chosen.layer is None and (path / "sweep.json").exists():
        _inspect_sweep(open_sweep(path), chosen.json)
        return
    if chosen.layer is None and is_recovery(path):
        _inspect_recovery(open_recovery(path), chosen.json)
        return
    # The default folder need not exist.
    is_folder = path.is_dir() or chosen.path is None
    if chosen.layer is None and is_folder and not (path / "config.json").exists():
        refuse(chosen, ["json"], f"is for one run, recovery or sweep, and {path} is a folder of them")
        _list_runs(path)
        return
    run = open_run(path)
    if chosen.layer is not None:
        record = run.layer(chosen.layer, mask=False)
        numbers = run.numbers(record.name) | {"layer_sparsity": record.sparsity}
        print(json.dumps(numbers, indent=1))
    elif chosen.json:
        print(
            json.dumps(
                {"id": run.id, "complete": run.complete, **run.config, "metrics": run.metrics}, indent=1
            )
        )
    else:
        state = "complete" if run.complete else f"stopped after {counted(len(run.blocks), 'block')}"
        print(f"{run.name} ({run.path}, {run.created}): {state}")
        print(summary(run))
        if not run.complete:
            print(f"Resume: python -m trim resume {shlex.quote(str(run.path))}")


def _inspect_sweep(sweep: Sweep, as_json: bool) -> None:
    outcomes = sweep.outcomes()
    if as_json:
        print(json.dumps(results(sweep, outcomes), indent=1))
    else:
        print(results_markdown(sweep, outcomes), end="")


def _inspect_model(source: str, as_json: bool) -> None:
    from trim.models.loaded import describe_model

    description = describe_model(source)
    if as_json:
        print(json.dumps(asdict(description), indent=1))
        return
    print(
        f"{description.title} ({description.kind}): {description.architecture}, {description.parameters:,} parameters"
    )
    print(description.layers_text)
    if description.download_bytes:
        print(f"{format_bytes(description.download_bytes)} would be downloaded")


def _inspect_recovery(recovery: Recovery, as_json: bool) -> None:
    record, metrics = recovery.record, recovery.metrics
    if as_json:
        facts = {"id": recovery.id, "complete": recovery.complete, "fingerprint": recovery.fingerprint}
        print(json.dumps(facts | {"settings": dataclasses.asdict(record), "metrics": metrics}, indent=1))
        return
    print(f"{recovery.name} ({recovery.path}, {recovery.created}): {_recovery_state(recovery)}")
    print(f"{record.pruned.title}, trained to predict what {record.dense.title} predicts")
    text = record.text
    print(
        f"on {counted(text.windows, 'window')} of {text.length:,} tokens of {one_line(Path(text.corpus).name)}, "
        f"{text.held_out:,} more held out"
    )
    for look in metrics.get("curve", []):
        print(held_out_line(**look))


def _recovery_state(recovery: Recovery) -> str:
    if not recovery.complete:
        return f"not complete; resume with: python -m trim resume {shlex.quote(str(recovery.path))}"
    metrics = recovery.metrics
    best = metrics["curve"][metrics["best"]]
    return (
        f"recovered, model sparsity {metrics['sparsity']:.4f}, held-out perplexity {best['perplexity']:.4g}"
    )


def _list_runs(folder: Path) -> None:
    entries: list[FolderEntry[Sweep | Recovery | Run]] = [
        *list_sweeps(folder), *list_recoveries(folder), *list_runs(folder)
    ]  # fmt: skip
    for entry in entries:
        try:
            about = entry.problem if entry.opened is None else _about(entry.opened)
        except RunError as error:  # in one of the files that opening does not read
            about = str(error)
        print(f"{entry.path.name}: {about}")
    if not entries:
        print(
            f"{folder} holds no runs; make one with: python -m trim prune demo --target 0.7 --out {folder}/first"
        )


def _about(stored: Sweep | Recovery | Run) -> str:
    """Describe a stored folder in one line."""
    if isinstance(stored, Sweep):
        return f"a sweep of {counted(len(stored.cells), 'cell')}"
    if isinstance(stored, Recovery):
        return _recovery_state(stored)
    sparsity = stored.metrics.get("sparsity", {}).get("realised")
    state = f"model sparsity {sparsity:.4f}" if stored.complete and sparsity is not None else stored.kind
    return f"{stored.name}, {state}{'' if stored.complete else ', not complete'}"


def _cache(chosen: argparse.Namespace) -> None:
    if chosen.empty:
        print(f"{format_bytes(cache.clear())} freed")
    print(f"{cache.cache_folder()} (limit {format_bytes(cache.limit_bytes())})")
    for kind, size_bytes in cache.usage_bytes().items():
        print(f"  {kind}: {format_bytes(size_bytes)}")
