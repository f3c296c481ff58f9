"""Valid files of every kind, and for each kind a function that damages a copy and reads it."""

import contextlib
import datetime
import io
import json
import os
import random
import re
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

import trim
from app.services.jobs.manager import RunJobs
from app.services.jobs.progress import read_progress
from app.services.results.compared import labelled, read_slot, settings
from app.services.results.picks import LETTERS, Pick
from app.services.results.recovered import medians_moved, moved_text, recovery_report
from app.services.results.report import run_report
from app.services.results.sweep_curves import curves, texts
from app.services.results.tables import row_columns
from app.services.runs.commands import recover_again
from app.services.runs.facts import run_facts
from app.services.runs.importing import import_run
from app.services.runs.recoveries import recoveries, recovery_facts
from app.services.runs.store import RunStore
from app.ui.runs.table import table_columns
from benchmarks.mutations import (
    change_bytes,
    change_header,
    change_json,
    damage,
    mutate,
    read_header_of,
    write_header,
    write_json,
)
from tests.app.small_runs import make_recovery, make_run
from tests.trim import tiny
from tests.trim.models.test_gguf import write as write_gguf
from trim.cache import fingerprint
from trim.calibration.text_files import file_text
from trim.errors import TrimError
from trim.models.source import fetch, locate
from trim.models.streamed import StreamedModel
from trim.names import RECOVERY_FILE
from trim.runs.json_files import settings_fingerprint

MODEL = "model.safetensors"


class Cases:
    """Valid files of every kind, and for each kind a method that damages a copy and reads it."""

    def __init__(self, folder: Path) -> None:
        entry = {"corpus": "demo", "whole": False, "windows": 2, "length": 16, "tokens_sha256": "1" * 64}
        metrics = {
            "perplexities": [entry | {"perplexity": 50.0}],
            "dense_perplexities": [entry | {"perplexity": 20.0}],
            "continuations": [{"prompt": "Once", "new_tokens": 3, "texts": {"dense": "upon", "trim": "a"}}],
        }
        self.folder = folder
        self.run_folder = make_run(folder / "good" / "run", name="A run", note="a note", metrics=metrics)
        self.stopped = make_run(folder / "good" / "stopped", "optimal", blocks=1)
        run = trim.open_run(self.run_folder)
        self.recoveries = [
            make_recovery(folder / "good" / name, run, complete=complete)
            for name, complete in (("trained", True), ("training", False))
        ]
        self.models = [tiny.folder(folder / "good" / kind, kind) for kind in ("llama", "opt")]
        self.gguf_file = folder / "good" / "model.gguf"
        write_gguf(self.gguf_file)
        sweeps = RunStore(lambda: folder / "none").sweeps()  # the shipped sweeps
        self.sweep_folder = sweeps[0].path
        self.job_files = {
            "job": {"id": "run", "kind": "prune", "title": "A run", "commands": [["prune"]], "after": []}
            | {"pid": 1, "process_started": 1.5, "cancelled": False},
            "end": {"code": 2},
        }
        self.texts = {"txt": "Some words. Ünd more.\n".encode() * 300}
        self.texts["jsonl"] = b'{"text": "one \\u00e4", "n": 1}\n{"text": null}\n{"text": "two"}\n' * 50
        with_rows(folder / "rows.parquet", self.texts)

    def fresh(self, path: Path) -> Path:
        """Copy a folder."""
        target = self.folder / "case" / path.name
        shutil.rmtree(target.parent, ignore_errors=True)
        shutil.copytree(path, target)
        return target

    def run(self, random: random.Random) -> None:
        """Damage one value in a run's files, or one of its files."""
        path = self.fresh(random.choice([self.run_folder, self.stopped]))
        file = random.choice(
            sorted(each for each in path.rglob("*") if each.is_file() and "lock" not in each.name)
        )
        if file.suffix == ".json" and random.random() < 0.8:
            change_json(random, file, settings_fingerprint if file.name == "config.json" else None)
        elif file.suffix == ".jsonl" and random.random() < 0.8:
            events = [json.loads(line) for line in file.read_text().splitlines()]
            file.write_text("\n".join(json.dumps(mutate(random, event)) for event in events))
        elif file.suffix == ".safetensors" and random.random() < 0.5:
            edit_block(path, file, random)
        else:
            match random.randrange(5):
                case 0:
                    file.unlink()
                case 1:
                    file.unlink()
                    file.mkdir()
                case 2:
                    file.unlink()
                    file.symlink_to(random.choice([file, path, Path("/dev/null"), path / "config.json"]))
                case _:
                    change_bytes(random, file)
        look(path.parent, charts=random.random() < 0.05)

    def recovery(self, random: random.Random) -> None:
        """Damage one value in a recovery's files, or one of its files."""
        path = self.fresh(random.choice(self.recoveries))
        file = random.choice(sorted(each for each in path.glob("*.*") if each.is_file()))
        if file.suffix == ".json" and random.random() < 0.8:
            change_json(random, file, settings_fingerprint if file.name == RECOVERY_FILE else None)
        elif file.suffix == ".safetensors" and random.random() < 0.5:
            change_header(random, file)
        else:
            change_bytes(random, file)
        look(path.parent, charts=random.random() < 0.05)

    def zip(self, random: random.Random) -> None:
        """Damage the members or the bytes of a zip of a run or a recovery."""
        path = self.fresh(random.choice([self.run_folder, self.stopped, *self.recoveries]))
        content = io.BytesIO()
        with zipfile.ZipFile(
            content, "w", random.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
        ) as archive:
            for file in sorted(path.rglob("*")):
                if file.is_file() and "lock" not in file.name:
                    archive.writestr(f"run/{file.relative_to(path)}", file.read_bytes())
            if random.random() < 0.05:
                archive.writestr("run/events.jsonl", bytes(10 ** random.randrange(5, 9)))
            elif random.random() < 0.3:
                name = random.choice(
                    ["../x", "/x", "run/x.pkl", "run/blocks/9.safetensors", "x" * 300, "run/notes.json"]
                )
                with warnings.catch_warnings(action="ignore"):
                    archive.writestr(name, random.randbytes(random.choice([0, 9, 3000])))
        zipped = damage(random, content.getvalue()) if random.random() < 0.8 else content.getvalue()
        import_run(io.BytesIO(zipped), path.parent / "runs", lambda _: False)
        look(path.parent / "runs", charts=False)

    def model(self, random: random.Random) -> None:
        """Damage the configuration, header, tokenizer or bytes of a model folder."""
        path = self.fresh(random.choice(self.models))
        file = random.choice(sorted(each for each in path.iterdir() if each.is_file()))
        if random.random() < 0.5:
            file = path / "config.json"
        if file.suffix == ".json" and random.random() < 0.85:
            change_json(random, file)
        elif file.suffix == ".safetensors" and random.random() < 0.6:
            change_header(random, path / MODEL)
        else:
            change_bytes(random, file)
        read_model(path)

    def gguf(self, random: random.Random) -> None:
        """Damage a number in the header of a GGUF file, or its bytes."""
        path = self.folder / "damaged.gguf"
        content = self.gguf_file.read_bytes()
        if random.random() < 0.5:
            key = random.choice(re.findall(rb"qwen2\.[a-z_.]+|blk\.[0-9a-z_.]+", content))
            # A key is followed by the type of its value, a tensor's name by its number of dimensions; then the number.
            at = content.index(key) + len(key) + random.choice([0, 4, 4, 12])
            number = random.choice([0, 1, 7, 33, 10**5, 10**6, 2**31 - 1, 2**32 - 1])
            path.write_bytes(content[:at] + struct.pack("<I", number) + content[at + 4 :])
        else:
            path.write_bytes(damage(random, content))
        read_model(path)

    def sweep(self, random: random.Random) -> None:
        """Damage one value in a sweep's files, or one of its files."""
        path = self.fresh(self.sweep_folder)
        file = random.choice(sorted(each for each in path.rglob("*.json") if each.is_file()))
        if random.random() < 0.4:
            file = path / "sweep.json"
        if random.random() < 0.8:
            change_json(random, file, fingerprint if file.name == "sweep.json" else None)
        else:
            change_bytes(random, file)
        look(path.parent, charts=False)

    def job(self, random: random.Random) -> None:
        """Damage a job's record, its end, or its output."""
        path = self.fresh(random.choice([self.run_folder, self.stopped]))
        jobs = path.parent / ".jobs"
        jobs.mkdir()
        changed = random.choice(["job", "end", "log"])
        for ending, content in self.job_files.items():
            now = mutate(random, content) if ending == changed else content
            write_json(jobs / f"{path.name}.{ending}", now)
        log = f"trim: {random.choice(['no', '€' * 10**6, '<b>'])}".encode()
        (jobs / f"{path.name}.log").write_bytes(damage(random, log) if changed == "log" else log)
        look(path.parent, charts=False)

    def bomb(self, random: random.Random) -> None:
        """Make a small file that claims to be large, or unpacks to much."""
        match random.choice(["parquet", "line", "tensors", "names"]):
            case "parquet":
                repeated_text(self.folder / "bomb.parquet", random)
                read_text(self.folder / "bomb.parquet", random)
            case "line":
                path = self.folder / "bomb.jsonl"
                path.write_bytes(
                    b'{"text": ' * random.choice([1, 10**5]) + b'"' + b"a " * 10 ** random.randrange(4, 8)
                )
                read_text(path, random)
            case "tensors":
                path = self.fresh(self.models[0])
                header, rest = read_header_of(path / MODEL)
                names = sorted(name for name in header if name != "__metadata__")
                for name in random.sample(names, random.randrange(1, len(names))):
                    start, end = header[name]["data_offsets"]
                    at = random.choice([0, start + 4, end, header[random.choice(names)]["data_offsets"][0]])
                    header[name]["data_offsets"] = [at, at + end - start]
                write_header(path / MODEL, header, rest)
                read_model(path)
            case _:
                path = self.fresh(self.models[0])
                header, rest = read_header_of(path / MODEL)
                count = 10 ** random.randrange(3, 6)
                entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                header |= {f"model.layers.{number}.x": entry for number in range(count)}
                write_header(path / MODEL, header, rest)
                read_model(path)

    def text(self, random: random.Random) -> None:
        """Damage the bytes of a text."""
        ending = random.choice(sorted(self.texts))
        path = self.folder / f"damaged.{ending}"
        path.write_bytes(damage(random, self.texts[ending]))
        read_text(path, random)


def read_text(path: Path, random: random.Random) -> None:
    """Read a text as a run does."""
    for _ in file_text(path, random.choice(["calibration", "evaluation"])).pieces():
        pass


def repeated_text(path: Path, random: random.Random) -> None:
    """Write a parquet file with many rows that share one stored text."""
    text = "x y " * (10 ** random.randrange(2, 7) // 4)
    rows = 10 ** random.randrange(2, 6)
    column = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(rows, np.int32)), pyarrow.array([text])
    )
    compression = random.choice(["zstd", "snappy", "none"])
    table = pyarrow.table({"text": column})
    pyarrow.parquet.write_table(
        table, path, compression=compression, row_group_size=rows // random.choice([1, 7])
    )


def with_rows(path: Path, texts: dict[str, bytes]) -> None:
    """Add a parquet file to texts."""
    pyarrow.parquet.write_table(pyarrow.table({"text": ["some words", None, "more ünd"] * 20}), path)
    texts["parquet"] = path.read_bytes()


def edit_block(path: Path, file: Path, random: random.Random) -> None:
    """Change the numbers in a block's metadata, and update its size in the manifest."""
    header, rest = read_header_of(file)
    header["__metadata__"]["trim"] = json.dumps(mutate(random, json.loads(header["__metadata__"]["trim"])))
    write_header(file, header, rest)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["blocks"][str(int(file.stem))]["bytes"] = file.stat().st_size
    write_json(path / "manifest.json", manifest)


def look(folder: Path, *, charts: bool) -> None:
    """Read every run of a folder as the pages do, where a damaged run is a line and not an error."""
    store = RunStore(lambda: folder, lambda: folder / "none")
    entries = store.runs()
    table_columns([run_facts(entry) for entry in entries])
    for entry in entries:
        if entry.run is None:
            continue
        run = entry.opened()
        read_progress(run.events(), datetime.datetime.now(datetime.UTC))
        row_columns(run)
        picks = [Pick(run.id, name) for name in run.layers[: len(LETTERS)]]
        settings(labelled([read_slot(store, slot, pick) for slot, pick in enumerate(picks)]))
        if charts:
            run_report(run, run.layers[:1])
    trained = recoveries(folder)
    table_columns([recovery_facts(entry) for entry in trained])
    for recovery in (entry.opened for entry in trained if entry.opened is not None):
        read_progress(recovery.events(), datetime.datetime.now(datetime.UTC))
        recover_again(recovery)
        with contextlib.suppress(TrimError):
            moved_text(medians_moved(recovery.rows_moved()))
            if charts:
                recovery_report(recovery)
        RunJobs(lambda: folder).state(recovery.id, recovery)
    jobs = RunJobs(lambda: folder)
    jobs.running()
    for entry in entries:
        jobs.state(entry.id)
        jobs.record(entry.id)
        jobs.command_state(entry.id)
    sweeps = store.sweeps()
    for sweep in (entry.sweep for entry in sweeps if entry.sweep is not None):
        sweep.outcomes()
        for text in texts([sweep]):
            curves([sweep], text)


def read_model(path: Path) -> None:
    """Describe a model, and read it both ways."""
    trim.describe_model(path)
    streamed = StreamedModel(fetch(locate(path), lambda _: None), device=torch.device("cpu"))
    for index in range(len(streamed.blocks)):
        with streamed.block(index):
            pass
    with streamed.outside():
        pass
    trim.load_model(path, device="cpu")
