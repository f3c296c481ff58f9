"""Apply a run to a model: in memory, or into a folder that plain `transformers` loads.

A folder is copied file by file and tensor by tensor, in the types of the original. Only the pruned weights change, and
in a refitted run (`trim.methods.refit`) the kept weights of the same layers.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from io import BufferedRandom
from pathlib import Path

import torch

from trim.devices import choose_device, dtype_name
from trim.errors import ModelError, RunError
from trim.files import new_folder, remedy
from trim.hub import parse_id
from trim.models.checkpoint import CONFIG_FILES, LEGAL_FILES, TOKENIZER_FILES
from trim.models.conversions import StoredTensor
from trim.models.loaded import Model, fetch_model
from trim.models.safetensors_header import TensorPlace
from trim.models.streamed import StreamedModel
from trim.models.tensor_files import TensorFiles
from trim.models.towers import auto_class
from trim.names import local_path, one_line
from trim.progress import Meter, ProgressListener
from trim.runs.folder import Run, open_run
from trim.runs.options import idle_options
from trim.runs.places import require_writable
from trim.runs.recording import apply_record
from trim.runs.summary import summary

_CHUNK_BYTES = 2**24


def apply_run(run: Run | str | Path, model: Model) -> None:
    """Set the pruned weights of a loaded model to zero, in place; a refitted run also changes the kept ones.

    Raises:
        RunError, ModelError: as for `require_fit`; the model is unchanged then.
    """
    run = run if isinstance(run, Run) else open_run(run)
    require_fit(run, model)
    with torch.no_grad():
        for name in run.layers:
            apply_record(model.layers[name].weight, run.layer(name))


def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    model: str | Path | None = None,
    progress: ProgressListener | None = None,
) -> Path:
    """Write the pruned model as a folder that plain `transformers` loads, with its sparsity in the model card.

    Every tensor keeps its type in the original (float16 for a GGUF file), whatever type the run computed in. Licence,
    notice and policy files are copied too.

    Args:
        run: a whole-model run, complete and with masks.
        out: the new folder.
        model: another model of the same shape; None: the one that the run pruned.
        progress: called before each file.

    Raises:
        RunError: the run is not complete, or refitted another model, or the folder exists already or cannot be written.
        ModelError: the model cannot be read, has changed since the run, or has other layers.
    """
    run, out = run if isinstance(run, Run) else open_run(run), Path(out)
    require_masks(run)
    require_new(out)
    source = run.request.model if model is None else str(model)
    fetched = fetch_model(source, progress=progress)
    streamed, title = StreamedModel(fetched.folder, device=choose_device("cpu")), fetched.title
    if model is None:
        if streamed.files.fingerprint() != run.model.weights:
            way_out = f"apply the masks to it as it is with: python -m trim apply {run.path} {source} {out}"
            raise ModelError(
                f"{source} has changed since {run.path} pruned it; restore it, or "
                + ("prune it again" if run.request.changes_weights else way_out)
            )
    elif run.request.changes_weights:
        _require_refitted(run, streamed.files, title)
    _require_layers(run, streamed.layers, title)
    with disk_errors_named(out), new_folder(out.absolute()) as new:
        masked: dict[str, list[tuple[str, StoredTensor]]] = {}
        for layer in run.layers:
            for stored in streamed.stored(layer):
                masked.setdefault(stored.name, []).append((layer, stored))
        zeros = [0, 0]  # before and after pruning

        def apply_masks(name: str, place: TensorPlace, file: BufferedRandom) -> None:
            for layer, stored in masked[name]:
                with changed_part(file, place, stored) as weight:
                    zeros[0] += weight.numel() - int(weight.count_nonzero())
                    whole = weight.new_zeros(streamed.layers[layer]) if stored.rows != slice(None) else weight
                    stored.of(whole).copy_(weight)
                    apply_record(whole, run.layer(layer))
                    weight.copy_(stored.of(whole))
                    zeros[1] += weight.numel() - int(weight.count_nonzero())

        copy_model(streamed.files, new, masked, apply_masks, progress)
        dtype = dtype_name(streamed.files.main_dtype)
        parameters = sum(each.numel() for each in streamed.module.parameters())
        loads = auto_class(streamed.module.config).__name__
        card = _model_card(run, source, title, zeros, dtype, parameters, loads)
        (new / "README.md").write_text(card, encoding="utf-8")
        if out.exists():
            out.rmdir()
    return out


def require_new(out: Path) -> None:
    """Require a folder for a model that does not exist yet, or is empty, and can be written to.

    Raises:
        RunError: it exists already, or may not be written to.
    """
    require_writable(out.parent)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"{out} exists already; choose another folder, or remove it first")


def require_fit(run: Run, model: Model) -> None:
    """Require a run that fits this model.

    Raises:
        RunError: the run has no masks, or is not complete, or refitted another model.
        ModelError: the model lacks a layer of the run, or has it in another shape.
    """
    require_masks(run)
    _require_layers(
        run,
        {name: (layer.out_features, layer.in_features) for name, layer in model.layers.items()},
        model.title,
    )
    if run.request.changes_weights:
        _require_refitted(run, TensorFiles(fetch_model(model.name).folder), model.title)


def require_masks(run: Run) -> None:
    """Require a complete run of a whole model with masks.

    Raises:
        RunError: it is not one.
    """
    if run.kind != "model" or not run.complete:
        raise RunError(
            f"{run.path} is not a complete run of a whole model; "
            + (
                f"resume with: python -m trim resume {run.path}"
                if run.kind == "model"
                else "it holds single layers, and only runs of whole models can be exported"
            )
        )
    for block in run.blocks:
        names = run.manifest["blocks"][str(block)]["layers"]
        if names and run.layer(names[0]).packed_mask is None:
            raise RunError(f"{run.path} was kept without masks; prune again to make them")


def _require_refitted(run: Run, files: TensorFiles, title: str) -> None:
    """Refuse to apply a refitted run to another model than its own: it would replace the kept weights."""
    if files.fingerprint() != run.model.weights:
        raise RunError(
            f"{run.path} refitted the kept weights to {run.model.title}, and they would replace "
            f"those of {title}; prune that model itself, or take the masks of a run that leaves weights as they are"
        )


def _require_layers(run: Run, shapes: dict[str, tuple[int, int]], title: str) -> None:
    """Require that a model has the layers of a run, in the same shapes (D, N)."""
    for name in run.layers:
        numbers = run.numbers(name)
        expected = (numbers["rows"], numbers["columns"])
        if shapes.get(name) != expected:
            has = f"has it as {shapes[name]}" if name in shapes else "has no such layer"
            raise ModelError(
                f"the masks of {run.path} do not fit {title}: {name} is {expected}, and the model {has}; "
                "choose the model that was pruned, or one of the same shape"
            )


@contextlib.contextmanager
def changed_part(file: BufferedRandom, place: TensorPlace, stored: StoredTensor) -> Iterator[torch.Tensor]:
    """Yield a tensor of the model from an open file, where it may be part of a larger one, and write changes back."""
    matrix = torch.empty(stored.shape, dtype=place.dtype)
    data = matrix.view(-1).view(torch.uint8).numpy().data
    start = place.start + stored.offset * place.dtype.itemsize
    file.seek(start)
    file.readinto(data)
    yield stored.part.of(matrix)
    file.seek(start)
    file.write(data)


def copy_model(
    files: TensorFiles,
    new: Path,
    changed: Collection[str],
    change: Callable[[str, TensorPlace, BufferedRandom], None],
    progress: ProgressListener | None,
) -> None:
    """Copy the folder of a model: its weights, configuration, tokenizer and licences, with some tensors changed.

    Args:
        files: its weights.
        new: an empty folder.
        changed: the names of the tensors to change.
        change: changes a tensor in the copy of its file; receives its name, its place and the open file.
        progress: called before and after each file.
    """
    meter = Meter(progress, of=sum(path.stat().st_size for path in files.files))
    for path in files.files:
        meter.report(f"Writing {path.name}")
        places = {name: place for name, place in files.places.items() if place.path == path}
        with path.open("rb") as old, _place_in(new, path, files.folder).open("w+b") as copy:
            shutil.copyfileobj(old, copy, _CHUNK_BYTES)
            for name, place in places.items():
                if name in changed:
                    change(name, place, copy)
            copy.flush()
            os.fsync(copy.fileno())
        meter.report(f"{path.name} is written", meter.done + path.stat().st_size)
    others = [files.folder / files.index] if files.index else []
    for pattern in (*CONFIG_FILES, *TOKENIZER_FILES, *LEGAL_FILES):
        others += [path for path in files.folder.glob(pattern) if path.is_file()]
    for path in others:
        shutil.copyfile(path, _place_in(new, path, files.folder))


def _place_in(new: Path, path: Path, folder: Path) -> Path:
    """Return the path of a file in a copy of its folder, and make its parents: an index may name files in folders."""
    target = new / path.relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


@contextlib.contextmanager
def disk_errors_named(out: Path) -> Iterator[None]:
    """Raise RunError with the path that cannot be written."""
    try:
        yield
    except OSError as error:
        where = error.filename or out
        raise RunError(
            f"{where} cannot be written ({error.strerror or error}); {remedy(error)}, then export again"
        ) from error


def _model_card(
    run: Run, source: str, title: str, zeros: list[int], dtype: str, parameters: int, loads: str
) -> str:
    """Return the README.md of a pruned model, with front matter for the Hub.

    `zeros`: how many weights of the pruned layers were zero before, and are after. `parameters`: how many the model
    has. `loads`: the class that loads it.
    """
    request, sparsity, weights = run.request, run.metrics["sparsity"], run.metrics["weights"]
    before, after = zeros
    how = f"pattern {request.pattern}" if request.pattern else f"allocation {request.allocation}"
    chosen = "the linear layers of its blocks"
    if request.layers != ("*",):
        chosen += f" that match {one_line(', '.join(request.layers))}"
    recalculated = "vectors" if request.recalculation == "vectors" else "inputs"
    search = {
        key: getattr(request, key)
        for key in ("learning_rates", "negative_learning_rates", "iterations", "layer_quality", "row_quality")
    }
    lines = [
        f"# {one_line(title)}, pruned to {sparsity['realised']:.2%}",
        "",
        f"Of the {weights['of']:,} weights in {chosen}, {after:,} are zero "
        f"({after / weights['of']:.6f}); before pruning, {before:,} were ({before / weights['of']:.6f}). The run chose "
        f"{weights['pruned']:,} of them: a sparsity of {sparsity['realised']:.6f} of these layers (requested: "
        f"{sparsity['requested']:.6f}), and {weights['pruned'] / parameters:.2%} of the model's {parameters:,} "
        "parameters. All else, such as embeddings, norms and the output head, is dense."
        + (
            " The kept weights are solved together with the mask."
            if request.solves
            else " The kept weights are refitted to the dense outputs."
            if request.refit
            else ""
        )
        + (
            " Those of each block are then tuned together, to the dense block's output."
            if request.tune
            else ""
        ),
        "",
        f"- method: {how}, budgets {Path(request.budget).name}"
        + ("" if "score" in idle_options(request) else f", score {request.score}")
        + (f", {recalculated} recalculated within blocks" if request.recalculate_inputs else ""),
        f"- calibration: {run.text.tokens:,} tokens of {one_line(Path(request.corpus).name)}, "
        f"seed {request.seed}",
        f"- search: {json.dumps(search)}" if request.allocation == "trim" else "- search: none",
        f"- type: {dtype}, as in the model that was pruned; no weight was converted",
        f"- run: {one_line(run.name)}, fingerprint {run.fingerprint}",
    ]
    table = ["```", summary(run), "```"]
    sources = "TRIM: Beck, Rudman, Eickhoff, arXiv 2505.16743. Wanda: Sun et al., arXiv 2306.11695."
    return hub_card("pruned, sparse, trim", source, lines, loads, ["", *table, "", sources])


def hub_card(tags: str, dense: str, lines: list[str], loads: str, end: Sequence[str] = ()) -> str:
    """Return a README.md with front matter for the Hub, and the code that loads the folder.

    Args:
        tags: separated by commas.
        dense: the source of the dense model, which is named if it is on the Hub.
        lines: before the code.
        loads: the class of `transformers` that loads the model.
        end: lines after the code.
    """
    named = parse_id(dense) if local_path(dense) is None else None
    front = ["library_name: transformers", f"tags: [{tags}]"]
    front += [f"base_model: {json.dumps(named[0])}"] if named else []
    code = [
        f"from transformers import {loads}, AutoTokenizer",
        "",
        f'model = {loads}.from_pretrained("THIS FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")',
    ]
    return "\n".join(["---", *front, "---", "", *lines, "", "```python", *code, "```", *end, ""])
