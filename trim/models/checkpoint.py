"""Folders with a model's configuration, its safetensors and its tokenizer."""

import contextlib
import json
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from safetensors import SafetensorError

from trim.devices import is_out_of_memory
from trim.errors import ModelError
from trim.models.architecture import SUPPORTED, Reason

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")

# Any one of these is enough to make a tokenizer of.
TOKENIZER_CORES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")
TOKENIZER_FILES = (
    *TOKENIZER_CORES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
CONFIG_FILES = ("config.json", "generation_config.json")
# What a model may be used for goes with its weights wherever they go.
LEGAL_FILES = tuple(
    "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in name) + "*"
    for name in ("license", "licence", "notice", "copying", "use_policy", "acceptable_use")
)


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


_OF_THREAD = (
    threading.local()
)  # .report: receives the steps of the bars that transformers would draw in this thread


@contextlib.contextmanager
def _reported_bars(report: Callable[[float], None]) -> Iterator[None]:
    """Report how much is done, from 0 to 1, of what `transformers` would draw a bar of in this thread."""
    from transformers.utils import logging

    logging.set_tqdm_hook(_bar)  # for the whole process, so it stays
    _OF_THREAD.report = report
    try:
        yield
    finally:
        del _OF_THREAD.report


def _bar(factory: Callable[..., object], arguments: tuple, settings: dict) -> object:
    report = getattr(_OF_THREAD, "report", None)
    if report is None or not arguments:
        return factory(*arguments, **settings)
    return _steps(arguments[0], report)


def _steps(items: Collection[T], report: Callable[[float], None]) -> Iterator[T]:
    for number, item in enumerate(items):
        report(number / len(items))
        yield item


def read_config(folder: Path) -> "PretrainedConfig":
    """Read the model's configuration.

    Raises:
        ModelError: there is none, it is damaged, or it is of an architecture that `transformers` does not know.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} holds no config.json, so it is not a model that transformers can load; give the folder that "
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
            reason = str(Reason.CODE)
        else:
            reason = "this version of transformers does not know it, or its config.json is damaged"
        architecture = (settings.get("architectures") or [kind])[0]
        raise ModelError(f"TRIM Lab cannot load {architecture}: {reason}; it prunes {SUPPORTED}") from error


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the model's tokenizer.

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


def load_weights(
    folder: Path, dtype: torch.dtype, device: torch.device, report: Callable[[float], None]
) -> "PreTrainedModel":
    """Load the model with its weights, in eval mode, without gradients for the weights.

    Args:
        folder: with `config.json` and safetensors.
        dtype: in which type.
        device: where to.
        report: called with how much is done, from 0 to 1.

    Raises:
        ModelError: the weights do not fit the configuration.
    """
    from transformers import AutoModelForCausalLM

    placement = {} if device.type == "cpu" else {"device_map": {"": device}}
    try:
        with quiet(), _reported_bars(report):
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
