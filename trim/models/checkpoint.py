"""Folders with a model's configuration, its safetensors and its tokenizer."""

import contextlib
import functools
import json
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import torch

from trim.devices import is_out_of_memory
from trim.errors import ModelError, NotEnoughMemoryError, TrimError
from trim.models.reasons import SUPPORTED, Reason
from trim.models.replaced import replaced
from trim.models.towers import auto_class
from trim.names import one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

P = ParamSpec("P")
T = TypeVar("T")

MAX_BLOCKS = 500

# Any one of these is enough for a tokenizer.
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
CONFIG_FILES = ("config.json", "generation_config.json", "*processor_config.json", "chat_template.json")
# A model's terms of use go wherever its weights go.
LEGAL_FILES = tuple(
    "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in name) + "*"
    for name in ("license", "licence", "notice", "copying", "use_policy", "acceptable_use")
)


def name_model_in_errors(read: Callable[P, T]) -> Callable[P, T]:
    """Turn every error of a function whose last positional argument is a model into a `TrimError` that names it.

    Raises:
        ModelError: any error that is not a `TrimError` already.
        NotEnoughMemoryError: memory filled up.
    """

    @functools.wraps(read)
    def reading(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return read(*arguments, **options)
        except TrimError:
            raise
        except Exception as error:
            model = one_line(str(arguments[-1] if arguments else next(iter(options.values()))), 200)
            if is_out_of_memory(error):
                raise NotEnoughMemoryError(
                    f"memory filled up while {model} was read; close other programs, or choose a smaller model"
                ) from error
            raise ModelError(
                f"{model} cannot be read ({type(error).__name__}: {one_line(str(error))}): a file of it is damaged, "
                "or of a kind that is not supported; get it again from where the model comes from"
            ) from error

    return reading


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and remarks of `transformers`: progress and errors are reported in our own words."""
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


# `_THREAD.report` receives the steps of the bars that transformers would draw in this thread.
_THREAD = threading.local()


def _bar(factory: Callable[..., object], arguments: tuple, settings: dict) -> object:
    """Report the progress, from 0 to 1, instead of the bar that `transformers` would draw."""
    report = getattr(_THREAD, "report", None)
    if report is None or not arguments:
        return factory(*arguments, **settings)
    return _steps(arguments[0], report)


def _steps(items: Collection[T], report: Callable[[float], None]) -> Iterator[T]:
    for number, item in enumerate(items):
        report(number / len(items))
        yield item


def read_config(folder: Path) -> "PretrainedConfig":
    """Read the model's configuration, except for how it is to be loaded, which the caller decides.

    Raises:
        ModelError: there is none, it is damaged, or it is of an architecture that `transformers` does not know.
    """
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
        many = [
            key
            for key, value in settings.items()
            if "layer" in key and isinstance(value, int) and value > MAX_BLOCKS
        ]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged; get it again from where the model comes from") from error
    if many:
        raise ModelError(
            f"{path} asks for more than {MAX_BLOCKS} blocks ({many[0]}): it is damaged; get it again"
        )
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            # An implementation may be the name of a repository, whose code would be fetched and run.
            config._attn_implementation = config._experts_implementation = config.dtype = None
            return config
    except Exception as error:  # each architecture raises its own
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
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        tokenizer.model_max_length = sys.maxsize  # the length of a window is checked elsewhere
        tokenizer("a")
        return tokenizer
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
        dtype: the type of the loaded weights.
        device: the device of the loaded weights.
        report: called with how much is done, from 0 to 1.

    Raises:
        ModelError: the weights do not fit the configuration.
    """
    from transformers.utils import logging

    logging.set_tqdm_hook(_bar)  # stays set: it is one for the whole process
    config = read_config(folder)
    placement = {} if device.type == "cpu" else {"device_map": {"": device}}
    try:
        with quiet(), replaced(_THREAD, "report", report):
            pair = auto_class(config).from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
                **placement,
            )
            # output_loading_info=True returns a pair, against the annotation.
            module, loaded = cast("tuple[PreTrainedModel, dict[str, list[str]]]", pair)
    except Exception as error:
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
