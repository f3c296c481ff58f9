"""Load models for capturing and pruning, and describe models before they are loaded."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from trim import hub
from trim.devices import MARGIN_FRACTION, choose_device, choose_dtype, memory_errors_named, require_memory
from trim.models import checkpoint
from trim.models import source as sources
from trim.models.architecture import blueprint, find_blocks, prepare
from trim.models.dense import stays_dense
from trim.models.experts import RoutedLinear, routers
from trim.models.gguf import gguf_blueprint
from trim.models.gguf_header import read_gguf_header
from trim.models.tensor_files import TensorFiles, weights_key
from trim.models.weight_files import weight_files
from trim.names import counted, select_layers
from trim.progress import Meter, ProgressListener

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(eq=False)
class Model:
    """A causal language model with its tokenizer, its blocks and the layers that can be pruned.

    Attributes:
        name: the requested model, as the user named it.
        title: a short line that names it to users.
        fingerprint: the identity of the weights, as runs record it; changes when the weights change.
        module: the `transformers` model, in eval mode, with each `Conv1D` replaced by a linear layer.
        tokenizer: its tokenizer.
        weights_key: changes whenever the files of the weights may have changed; part of every cache key.
        blocks: the transformer blocks in order.
        layers: every `nn.Linear` inside the blocks, including those of experts, by names such as "15.mlp.gate_proj".
    """

    name: str
    title: str
    fingerprint: str
    module: "PreTrainedModel" = field(repr=False)
    tokenizer: "PreTrainedTokenizerBase" = field(repr=False)
    weights_key: dict = field(default_factory=dict, repr=False)
    blocks: list[nn.Module] = field(init=False, repr=False)
    layers: dict[str, nn.Linear] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prepare(self.module)
        self.blocks = find_blocks(self.module)
        self.layers = {
            f"{index}.{path}": layer
            for index, block in enumerate(self.blocks)
            for path, layer in block.named_modules()
            if isinstance(layer, nn.Linear)
        }

    @property
    def architecture(self) -> str:
        """The `transformers` class, such as "LlamaForCausalLM"."""
        return type(self.module).__name__

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the forward pass computes."""
        return next(self.module.parameters()).dtype

    @property
    def longest_window(self) -> int | None:
        """The most tokens that the model was made to read at once; None where its configuration does not say."""
        return getattr(self.module.config.get_text_config(), "max_position_embeddings", None)

    def select(self, patterns: Iterable[str]) -> list[str]:
        """List the layers that match any of some names or shell patterns ("15.*", "*.q_proj"), in the model's order.

        Raises:
            LayerNotFoundError: a pattern matches nothing; the closest names are listed.
        """
        patterns = [patterns] if isinstance(patterns, str) else patterns
        problem = f"{self.title} has no layer that matches"
        return select_layers(patterns, self.layers, problem, routers(self.blocks))


@dataclass(frozen=True)
class ModelDescription:
    """Facts about a model that are known before it is downloaded or loaded.

    Attributes:
        source: the requested model, as the user named it.
        title: a short line that names it to users.
        kind: "demo", "Hub", "folder" or "GGUF file".
        architecture: such as "LlamaForCausalLM"; for a GGUF file llama.cpp's name, such as "llama".
        download_bytes: the bytes that loading would download; 0 when all files are on this machine.
        parameters: the number of parameters.
        blocks: the number of transformer blocks.
        layers: the number of linear layers in the blocks.
        expert_layers: the number of these that belong to experts.
        dense: the parts that stay dense unless they are named, such as routers, convolutions and other towers, one line
            for each kind.
    """

    source: str
    title: str
    kind: str
    architecture: str
    download_bytes: int
    parameters: int
    blocks: int
    layers: int
    expert_layers: int
    dense: tuple[str, ...]

    @property
    def layers_text(self) -> str:
        """A sentence or two on how many layers can be pruned, how many are experts', and which parts stay dense."""
        experts = f", {self.expert_layers:,} of them experts'" if self.expert_layers else ""
        text = f"{counted(self.layers, 'linear layer')} in {counted(self.blocks, 'block')}{experts}."
        if self.dense:
            text += f" Stays dense unless it is named: {'; '.join(self.dense)}."
        return text


@checkpoint.name_model_in_errors
def load_model(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    progress: ProgressListener | None = None,
) -> Model:
    """Load a model for pruning, in eval mode.

    A model that is already on this machine is loaded without the network. No code of a repository is run, and no pickle
    is opened.

    Args:
        source: "demo"; "org/name" or "org/name@revision" on the Hub; a folder with safetensors; a GGUF file.
        device: "cpu", "cuda" or "cuda:1"; None: the first GPU where there is one.
        dtype: "float32", "bfloat16" or "float16"; None: float32 on the CPU, on a GPU the checkpoint's 16-bit type.
        progress: called at each step.

    Raises:
        ModelError: the model cannot be found, read or pruned; the message says what to do.
        NotEnoughMemoryError: it does not fit into the device's memory.
        SettingsError: no such device or type.
        CacheError: the dequantized weights of a GGUF file cannot be cached.
    """
    choose_dtype(dtype, torch.float32, choose_device(device))
    return fetch_model(source, progress=progress).load(device, dtype, progress)


@dataclass(frozen=True)
class FetchedModel:
    """A model on this machine, not loaded yet.

    Attributes:
        source: the requested model, as the user named it.
        title: a short line that names it to users.
        folder: with its configuration, safetensors and tokenizer.
    """

    source: str
    title: str
    folder: Path

    def load(
        self,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        progress: ProgressListener | None = None,
    ) -> Model:
        """Load it; see `load_model`."""
        target = choose_device(device)
        meter = Meter(progress, of=1)
        meter.report(f"Reading the tokenizer of {self.title}")
        tokenizer, weights = checkpoint.load_tokenizer(self.folder), TensorFiles(self.folder)
        key = weights_key(weights)
        compute_dtype = choose_dtype(dtype, weights.main_dtype, target)
        advice = "choose a smaller model" + (
            ', or give dtype="bfloat16", which needs half' if compute_dtype == torch.float32 else ""
        )
        if target.type == "cuda":
            advice += ', or device="cpu"'
        needed_bytes = int(weights.parameters * compute_dtype.itemsize * (1 + MARGIN_FRACTION))
        require_memory(needed_bytes, target, f"loading {self.title}", advice)
        what = f"Loading {self.title} ({str(compute_dtype).removeprefix('torch.')} on {target})"
        meter.report(what)
        with memory_errors_named(f"the memory of {target} filled up while {self.title} was loaded; {advice}"):
            module = checkpoint.load_weights(
                self.folder, compute_dtype, target, lambda done: meter.report(what, done)
            )
        return Model(self.source, self.title, key["fingerprint"], module, tokenizer, key)


@checkpoint.name_model_in_errors
def fetch_model(source: str | Path, *, progress: ProgressListener | None = None) -> FetchedModel:
    """Find a model, and download or dequantize it first where needed.

    Raises:
        ModelError: the model cannot be found, read or pruned; the message says what to do.
    """
    found = sources.locate(source)
    return FetchedModel(str(source), found.title, sources.fetch(found, progress or (lambda step: None)))


@checkpoint.name_model_in_errors
def describe_model(source: str | Path) -> ModelDescription:
    """Describe a model and what loading it would download. For a model on the Hub only its config.json is fetched.

    Raises:
        ModelError: the model cannot be found, read or pruned; the message says what to do.
    """
    found = sources.locate(source)
    download_bytes = 0
    if isinstance(found, sources.GgufSource):
        header = read_gguf_header(found.gguf)
        architecture, parameters, module = header.architecture, header.parameters, gguf_blueprint(header)
    else:
        if isinstance(found, sources.FolderSource):
            folder = found.folder
            weight_files(folder)
        elif (here := sources.downloaded_folder(found.repository)) is not None:
            folder = here
        else:
            download_bytes = sum(sources.files_to_download(found.repository).values())
            folder = hub.fetch_file(found.repository, "config.json").parent
        module = blueprint(checkpoint.read_config(folder))
        architecture = type(module).__name__
        parameters = sum(parameter.numel() for parameter in module.parameters())
    blocks = find_blocks(module)
    layers = [part for block in blocks for part in block.modules() if isinstance(part, nn.Linear)]
    return ModelDescription(
        str(source),
        found.title,
        found.kind,
        architecture,
        download_bytes,
        parameters,
        len(blocks),
        len(layers),
        sum(isinstance(layer, RoutedLinear) for layer in layers),
        tuple(stays_dense(module, blocks)),
    )
