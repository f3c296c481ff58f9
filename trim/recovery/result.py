"""Write the recovered model: a copy of the pruned one with the trained weights, in the types of its files."""

import shutil
from io import BufferedRandom
from pathlib import Path

from safetensors.numpy import save
from torch import Tensor

from trim.devices import dtype_name
from trim.errors import ModelError
from trim.files import new_folder, write_atomically
from trim.models.architecture import blueprint, find_blocks
from trim.models.checkpoint import read_config
from trim.models.conversions import StoredTensor
from trim.models.loaded import Model
from trim.models.safetensors_header import TensorPlace
from trim.models.tensor_names import ModelTensors
from trim.names import counted, one_line
from trim.progress import ProgressListener
from trim.pruning.export import changed_part, copy_model, disk_errors_named, hub_card, require_new
from trim.recovery.kept import KeptWeights
from trim.recovery.pair import ModelPair
from trim.runs.json_files import incomplete
from trim.runs.recovery import MOVED_FILE, Recovery, ZeroCounts


def write_moved(path: Path, student: Model, kept: KeptWeights, before: Tensor, after: Tensor) -> None:
    """Write the relative change of the kept weights of each row, by layer."""
    names = {id(layer.weight): name for name, layer in student.layers.items()}
    own = {name: names.get(id(parameter)) for name, parameter in student.module.named_parameters()}
    moved = {
        layer: kept.rows_moved(name, before, after).numpy()
        for name in kept.matrices()
        if (layer := own[name]) is not None
    }
    write_atomically(path / MOVED_FILE, save(moved))


def write_model(
    out: Path,
    pair: ModelPair,
    kept: KeptWeights,
    before: Tensor,
    after: Tensor,
    card: str,
    progress: ProgressListener | None,
) -> ZeroCounts:
    """Write the folder of the recovered model; it is complete or absent.

    Args:
        out: the new folder.
        pair: the models.
        kept: the trained weights, and where they are.
        before: their values in the pruned model.
        after: their values in the recovered model.
        card: README.md.
        progress: called before and after each file.

    Raises:
        ModelError: a weight is too large for the type of the files.
        RunError: it cannot be written.
    """
    module = blueprint(read_config(pair.files.folder))
    tensors = ModelTensors(module, pair.files)
    inside = {id(each) for block in find_blocks(module) for each in block.parameters() if each.ndim > 1}
    matrices = {name for name, each in module.named_parameters() if id(each) in inside}
    trained: dict[str, list[tuple[str, StoredTensor]]] = {}  # by the tensor's name in the files
    for name in pair.trained:
        for stored in tensors.places(name):
            trained.setdefault(stored.name, []).append((name, stored))
    counts: ZeroCounts = {"zeros": 0, "of": 0, "rounded": 0}

    def change(tensor: str, place: TensorPlace, file: BufferedRandom) -> None:
        for name, stored in trained[tensor]:
            new = stored.of(kept.tensor(name, after, place.dtype))
            if not bool(new.isfinite().all()):
                raise ModelError(
                    f"{name} exceeds the range of {dtype_name(place.dtype)}, the type of "
                    f"{pair.files.folder}; recover with a lower --learning-rate"
                )
            if name in matrices:
                zeros = new.numel() - int(new.count_nonzero())
                old = stored.of(kept.tensor(name, before, place.dtype))
                counts["zeros"] += zeros
                counts["of"] += new.numel()
                counts["rounded"] += zeros - (old.numel() - int(old.count_nonzero()))
            with changed_part(file, place, stored) as weight:
                weight.copy_(new)

    with disk_errors_named(out), new_folder(out.absolute()) as new:
        copy_model(pair.files, new, trained, change, progress)
        (new / "README.md").write_text(card, encoding="utf-8")
    return counts


def export_recovery(recovery: Recovery, out: str | Path) -> Path:
    """Copy the recovered model into a separate folder.

    Raises:
        RunError: the recovery is not complete, or the folder exists already or cannot be written.
    """
    out = Path(out)
    if not recovery.complete:
        raise incomplete(recovery.path)
    require_new(out)
    with disk_errors_named(out), new_folder(out.absolute()) as new:
        shutil.copytree(recovery.model, new, dirs_exist_ok=True)
        if out.exists():
            out.rmdir()
    return out


def model_card(recovery: Recovery, steps: int, tokens: int, trained: int, loads: str) -> str:
    """Return the README.md of the recovered model, which the class `loads` of `transformers` loads."""
    record = recovery.record
    text = record.text
    lines = [
        f"# {one_line(record.pruned.title)}, recovered",
        "",
        f"The kept weights, biases and norms of the blocks ({trained:,} numbers) were trained for "
        f"{counted(steps, 'step')} over {tokens:,} tokens to predict what the dense "
        "model predicts; every zero of the pruned model stayed.",
        "",
        f"- dense model: {one_line(record.dense.title)}",
        f"- text: {counted(text.windows, 'window')} of {text.length:,} tokens of {one_line(Path(text.corpus).name)}, "
        f"{record.request.sampled or 0:.0%} of what was read written by the dense model itself; "
        f"{text.held_out:,} more were held out",
        f"- trained in {record.compute.dtype} on {record.compute.device_name}",
        f"- recovery: {one_line(recovery.name)}, fingerprint {recovery.fingerprint}",
    ]
    return hub_card("pruned, sparse, distilled, trim", record.parent, lines, loads)
