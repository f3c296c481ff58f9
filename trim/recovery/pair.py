"""Find a pruned model and the dense one from which it was made, check them before anything slow, and load them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trim.devices import DTYPES, choose_device, choose_dtype
from trim.errors import ModelError, RunError, SettingsError
from trim.evaluation.workbench import model_source
from trim.models.architecture import blueprint, find_blocks
from trim.models.checkpoint import read_config
from trim.models.loaded import Model, fetch_model, load_model
from trim.models.source import locate
from trim.models.tensor_files import TensorFiles
from trim.models.tensor_names import ModelTensors
from trim.models.towers import output_head
from trim.names import MODELS, absolute
from trim.progress import Meter, ProgressListener
from trim.pruning.export import apply_run, require_masks
from trim.recovery.memory import ModelSizes
from trim.runs.folder import Run, is_run, open_run
from trim.runs.json_files import incomplete
from trim.runs.recovery import is_recovery, open_recovery

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_SPARSITY = 0.05  # below this share of zeros in the blocks' matrices a checkpoint counts as dense
MIN_COSINE = 0.3  # of the kept weights and the parent's; unrelated weights have a cosine near 0


@dataclass(frozen=True, eq=False)
class ModelPair:
    """A pruned model and its dense parent, not loaded yet.

    Attributes:
        sparse: the pruned model: a run's folder, or a source for `load_model`.
        run: the run; None: it is a checkpoint.
        title: the pruned model's title.
        parent, parent_title: the dense model, a source for `load_model`, and its title.
        files: the files of the pruned model's weights; for a run those of the dense model.
        dense_weights, sparse_weights: fingerprints of both models' files.
        trained: the names of the trained parameters.
        sizes: the sizes on which the memory depends.
    """

    sparse: str
    run: Run | None
    title: str
    parent: str
    parent_title: str
    files: TensorFiles
    dense_weights: str
    sparse_weights: str
    trained: tuple[str, ...]
    sizes: ModelSizes

    def load(
        self, device: torch.device, dtype: torch.dtype, progress: ProgressListener | None
    ) -> tuple[Model, Model]:
        """Load the dense model, in the type of the forward pass, and the pruned one, in that of its files."""
        dense = load_model(self.parent, device=device, dtype=dtype, progress=progress)
        exact = self.files.main_dtype if self.files.main_dtype in DTYPES.values() else torch.float32
        source = self.parent if self.run else self.sparse
        student = load_model(source, device=device, dtype=exact, progress=progress)
        if self.run is not None:
            apply_run(self.run, student)
        return dense, student


def open_pair(
    sparse: str | Path,
    parent: str | Path | None,
    dtype: torch.dtype,
    progress: ProgressListener | None = None,
) -> ModelPair:
    """Find both models and check that one was made from the other.

    Args:
        sparse: a run folder, or a checkpoint (a source for `load_model`).
        parent: the dense model; None: that of the run.
        dtype: the type of the forward passes.
        progress: called while a checkpoint is read.

    Raises:
        SettingsError: a checkpoint without a parent, or with too few zeros.
        RunError: the run is not complete or has no masks, or pruned another model than the parent.
        ModelError: a model cannot be read, or the parent is another model's.
    """
    run = open_run(sparse) if is_run(sparse) else None
    if is_recovery(sparse):
        before = open_recovery(sparse)
        if not before.complete:
            raise incomplete(before.path)
        parent = before.record.parent if parent is None else parent
    if run is not None:
        require_masks(run)
        if parent is None:
            parent = model_source(run)
    else:
        locate(sparse)  # raises if there is no such checkpoint, before the dense model is read
    if parent is None:
        raise SettingsError(
            f"name the dense model that {sparse} was made from with --parent: the pruned one learns its predictions"
        )
    dense = fetch_model(parent, progress=progress)
    dense_files = TensorFiles(dense.folder)
    weights = dense_files.fingerprint()
    if run is not None and weights != run.model.weights:
        raise RunError(
            f"{run.path} pruned {run.model.title}, and {dense.title} is another model or another version of it; leave "
            "--parent out, or name the model that was pruned"
        )
    if run is not None:
        title, files = run.name, dense_files
    else:
        checkpoint = fetch_model(sparse, progress=progress)
        title, files = checkpoint.title, TensorFiles(checkpoint.folder)
    module = blueprint(read_config(files.folder))
    tensors = ModelTensors(module, files)
    trained = tuple(name for name in _trained_names(module) if tensors.places(name))
    if run is not None:
        zeros = int(run.metrics["weights"]["pruned"])
    else:
        parents = ModelTensors(blueprint(read_config(dense.folder)), dense_files)
        zeros = _check_parent(title, dense.title, module, tensors, parents, progress)
    parameters = dict(module.named_parameters())
    count = sum(parameters[name].numel() for name in trained)
    blocks = find_blocks(module)
    linear = [part for block in blocks for part in block.modules() if isinstance(part, nn.Linear)]
    config = module.config.get_text_config()
    sizes = ModelSizes(
        sum(each.numel() for each in parameters.values()),
        count - zeros,
        sum(part.in_features + part.out_features for part in linear),
        len(blocks),
        config.hidden_size,
        config.vocab_size,
        dtype.itemsize,
    )
    return ModelPair(
        str(run.path.resolve()) if run else absolute(sparse, MODELS),
        run,
        title,
        absolute(parent, MODELS),
        dense.title,
        files,
        weights,
        weights if run else files.fingerprint(),
        trained,
        sizes,
    )


def recovery_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the type of the forward passes: as named, or float32 on the CPU, and bfloat16 on a GPU that has it."""
    if name is None and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return choose_dtype(name, torch.float32, choose_device(device))


def _trained_names(module: "PreTrainedModel") -> list[str]:
    """Return the names of the trained parameters: all except embedding tables and the output head, which are dense."""
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
    head = output_head(module)
    dense = {
        id(each) for part in (*tables, *([head] if head is not None else [])) for each in part.parameters()
    }
    return [name for name, each in module.named_parameters() if id(each) not in dense]


def _check_parent(
    title: str,
    parent_title: str,
    module: "PreTrainedModel",
    tensors: ModelTensors,
    dense: ModelTensors,
    progress: ProgressListener | None,
) -> int:
    """Check that a checkpoint was made from the parent, and return the number of zeros in its matrices.

    Raises:
        SettingsError: too few zeros.
        ModelError: the parent has other layers, or weights that do not resemble those of the checkpoint.
    """
    names = [name for name in _trained_names(module) if dict(module.named_parameters())[name].ndim > 1]
    meter = Meter(progress, of=len(names))
    zeros = count = 0
    dot = energy = parent_energy = 0.0
    for number, name in enumerate(names):
        meter.report(f"Comparing {title} with {parent_title}", number)
        weight = tensors.read(name).float()
        try:
            other: Tensor | None = dense.read(name).float()
        except KeyError:
            other = None
        if other is None or other.shape != weight.shape:
            raise ModelError(
                f"{title} was not made from {parent_title}: that one has no {name} of shape {tuple(weight.shape)}; "
                "name the model that it was made from with --parent"
            )
        kept = weight != 0
        zeros += weight.numel() - int(kept.sum())
        count += weight.numel()
        other *= kept
        dot += float((weight * other).sum())
        energy += float(weight.square().sum())
        parent_energy += float(other.square().sum())
    if zeros < MIN_SPARSITY * count:
        raise SettingsError(
            f"of the weights of {title} only {zeros / count:.2%} are zero, so there is nothing to recover; name a "
            "pruned checkpoint. A GGUF file in a few bits does not keep zeros: name the one that it was made from"
        )
    cosine = dot / (energy * parent_energy) ** 0.5 if energy * parent_energy else 0.0
    if cosine < MIN_COSINE:
        raise ModelError(
            f"{title} was not made from {parent_title}: the cosine of their weights is {cosine:.2f}; name the model "
            "that it was made from with --parent"
        )
    return zeros
