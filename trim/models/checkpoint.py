"""Folders with a model's configuration, its safetensors and its tokenizer."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError, safe_open

from trim.cache import fingerprint
from trim.devices import is_out_of_memory
from trim.errors import ModelError
from trim.models.architecture import SUPPORTED

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[str], None]

INDEX = "model.safetensors.index.json"
WEIGHT_FILES = ("model.safetensors", "model-*-of-*.safetensors", INDEX)
# Any one of these is enough to make a tokenizer of.
TOKENIZER_CORES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")
TOKENIZER_FILES = (
    *TOKENIZER_CORES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
)
CONFIG_FILES = ("config.json", "generation_config.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

_TORCH_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


@dataclass(frozen=True)
class Weights:
    """What the headers of a folder's safetensors tell.

    Attributes:
        parameters: numbers in all tensors.
        size_bytes: of the files.
        dtype: the type of most of the numbers.
    """

    parameters: int
    size_bytes: int
    dtype: torch.dtype


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no remarks of `transformers`: progress and errors are told in our own words."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def weight_paths(folder: Path) -> list[Path]:
    """The safetensors files that hold the model's weights.

    Raises:
        ModelError: there are none, a part is missing, or only pickle files are there.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} is damaged; get it again from where the model comes from") from error
        if missing := [name for name in names if not (folder / str(name)).is_file()]:
            raise ModelError(
                f"{folder} lacks {len(missing)} of the {len(names)} parts that its index names, such as "
                f"{missing[0]}; get the missing parts from where the model comes from"
            )
        return [folder / name for name in names]
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(pickle_advice(str(folder), pickles[0]))
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise ModelError(
            f"{folder} holds {others[0]}, but neither model.safetensors nor {INDEX}: perhaps an adapter; merge it into "
            "its base model and save the result with save_pretrained"
        )
    ggufs = sorted(path.name for path in folder.glob("*.gguf"))
    hint = (
        f"; it holds {ggufs[0]}: give that file's own path"
        if ggufs
        else "; give the folder that holds model.safetensors"
    )
    raise ModelError(f"{folder} holds no weights (model.safetensors){hint}")


def pickle_advice(where: str, name: str) -> str:
    """Why a pickle is not loaded, and how its owner makes safetensors of it."""
    return (
        f"{where} holds its weights as pickle only ({name}), which can run any code when it is opened, so TRIM Lab "
        "does not load it; where you trust it, convert it once: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), likewise the tokenizer, and load "
        "the new folder"
    )


def read_headers(folder: Path) -> Weights:
    """Read how many numbers of which type the folder's safetensors hold, without reading the numbers.

    Raises:
        ModelError: there are no safetensors, they are damaged, or they hold another type than floats.
    """
    numbers: dict[str, int] = {}
    paths = weight_paths(folder)
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (no dict)
                    tensor = file.get_slice(key)
                    kind = tensor.get_dtype()
                    numbers[kind] = numbers.get(kind, 0) + torch.Size(tensor.get_shape()).numel()
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} is damaged or was not downloaded to its end; get it again from where the model comes from"
            ) from error
    if not numbers:
        raise ModelError(f"{folder} holds safetensors without a single tensor; get them again")
    most = max(numbers, key=numbers.__getitem__)
    if most not in _TORCH_TYPES:
        raise ModelError(
            f"the weights in {folder} are quantized (type {most}); load the checkpoint that they were made from"
        )
    size_bytes = sum(path.stat().st_size for path in paths)
    return Weights(sum(numbers.values()), size_bytes, _TORCH_TYPES[most])


def read_config(folder: Path) -> "PretrainedConfig":
    """The model's configuration.

    Raises:
        ModelError: there is none, it is damaged, or it is of an architecture that `transformers` does not know.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} holds no config.json, so it is no model that transformers can load; give the folder that "
            "save_pretrained wrote, or a GGUF file's own path"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        kind = settings.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged; get it again from where the model comes from") from error
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            return config
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        if "auto_map" in settings:
            reason = "it needs code from its own repository, which TRIM Lab never runs"
        else:
            reason = "this version of transformers does not know it, or its config.json is damaged"
        architecture = (settings.get("architectures") or [kind])[0]
        raise ModelError(f"TRIM Lab cannot load {architecture}: {reason}; it prunes {SUPPORTED}") from error


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The model's tokenizer.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_CORES):
        raise ModelError(
            f"{folder} holds no tokenizer (tokenizer.json), so no text can be given to the model; copy the tokenizer's "
            "files from the model it was made from"
        )
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust library raises plain Exception
        raise ModelError(
            f"the tokenizer in {folder} cannot be read; copy its files again from where the model comes from"
        ) from error


def load_weights(folder: Path, dtype: torch.dtype, device: torch.device) -> "PreTrainedModel":
    """The model with its weights, in eval mode, without gradients for the weights.

    Raises:
        ModelError: the weights do not fit the configuration.
    """
    from transformers import AutoModelForCausalLM

    placement = {} if device.type == "cpu" else {"device_map": {"": device}}
    try:
        with quiet():
            pair = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
                **placement,
            )
            # With output_loading_info a pair comes back, which its annotation does not say.
            module, loaded = cast("tuple[PreTrainedModel, dict[str, list[str]]]", pair)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"the weights in {folder} do not fit its config.json, or are damaged; get both again from where the "
            "model comes from"
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise ModelError(
            f"the safetensors in {folder} lack {len(missing)} of the model's weights, such as {missing[0]}; get "
            "them again from where the model comes from"
        )
    module.eval().requires_grad_(False)
    return module


def folder_fingerprint(folder: Path) -> str:
    """Changes when the folder's weights or configuration change: names, sizes and times of the safetensors."""
    files = []
    for path in weight_paths(folder):
        status = path.stat()
        files.append([path.name, status.st_size, status.st_mtime_ns])
    config = (folder / "config.json").read_text(encoding="utf-8")
    return fingerprint({"folder": str(folder.resolve()), "files": files, "config": config})
