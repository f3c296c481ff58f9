"""GGUF files: their weights, dequantized once and cached.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from trim.cache import cache_folder, cached_folder, fingerprint
from trim.devices import is_out_of_memory, require_memory
from trim.errors import CacheError, ModelError, NotEnoughMemoryError
from trim.models.architecture import SUPPORTED, blueprint
from trim.models.checkpoint import Progress, quiet
from trim.models.gguf_config import read_config, require_tensors
from trim.models.gguf_header import GgufHeader, read_header

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# Parsing holds the float32 weights twice for a moment: as NumPy arrays and as the model's own.
_PARSING_BYTES_PER_PARAMETER = 8


def gguf_blueprint(header: GgufHeader) -> "PreTrainedModel":
    """The model of a GGUF file on torch's meta device, made from the header alone.

    Raises:
        ModelError: the file cannot be read as it was meant, or holds a model that cannot be pruned.
    """
    _require_complete(header)
    module = blueprint(read_config(header))
    require_tensors(header, module)
    return module


def dequantized(path: Path, sha256: str, say: Progress) -> Path:
    """A folder with the float16 weights and the tokenizer of a GGUF file, made once and kept in the cache.

    Parsing a GGUF takes half a minute, loading what comes out of it a second. The folder's name changes when the file
    or what is understood of its header changes.

    Args:
        sha256: of the file's content.

    Raises:
        ModelError: the file cannot be read, or holds a model that cannot be pruned.
        NotEnoughMemoryError: there is no room to widen the weights.
        CacheError: there is no room on the disk for the widened weights.
    """
    header = read_header(path)
    config = gguf_blueprint(header).config
    key = fingerprint({"file": sha256, "config": json.loads(config.to_json_string(use_diff=False))})
    target = cache_folder() / "models" / key[:32]
    try:
        return cached_folder(target, lambda folder: _dequantize(path, header, config, folder, say))
    except (OSError, SafetensorError) as error:
        raise CacheError(
            f"the widened weights of {path.name} cannot be kept in {target.parent}; make room on that disk, or set "
            "TRIM_CACHE to a folder on another one"
        ) from error


def _dequantize(
    path: Path, header: GgufHeader, config: "PretrainedConfig", folder: Path, say: Progress
) -> None:
    """Fill a folder with what a GGUF file holds."""
    require_memory(
        _PARSING_BYTES_PER_PARAMETER * header.parameters,
        torch.device("cpu"),
        f"widening the weights of {path.name}",
        "close other programs, or load the model from a folder with safetensors, which needs less",
    )
    say(f"Unpacking {path.name} to full-width weights (once, about half a minute)")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet(), _parsed_once():
            tokenizer = AutoTokenizer.from_pretrained(
                path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
            )
            module = AutoModelForCausalLM.from_pretrained(
                path.parent,
                config=config,
                gguf_file=path.name,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
    except Exception as error:  # a foreign file in foreign parsers; the Rust one raises plain Exception
        if is_out_of_memory(error):
            raise NotEnoughMemoryError(
                f"memory filled up while {path.name} was widened; close other programs"
            ) from error
        raise ModelError(
            f"transformers cannot read {path.name} (architecture {header.architecture!r}): the file is damaged, or "
            "its types are not supported; load the model's folder with safetensors instead"
        ) from error
    # What came from a GGUF still carries its quantizer, and then neither converts nor saves.
    del module.config.quantization_config
    vars(module).update(hf_quantizer=None, is_quantized=False)
    with quiet():
        module.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers parse a file and map its tensors' names once.

    It parses the file for the tokenizer and for the weights, and maps the names for every module of the model, which
    together takes several times as long as the rest.
    """
    import gguf

    originals = {name: vars(gguf)[name] for name in ("GGUFReader", "get_tensor_name_map")}
    vars(gguf).update({name: functools.cache(original) for name, original in originals.items()})
    try:
        yield
    finally:
        vars(gguf).update(originals)


def _require_complete(header: GgufHeader) -> None:
    if (parts := header.count("split.count", 1)) > 1:
        raise ModelError(
            f"{header.file} is one of {parts} parts of a model; merge them first: "
            "llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        )
    if experts := header.count(f"{header.architecture}.expert_count"):
        raise ModelError(
            f"TRIM Lab cannot prune {header.file}: it is a mixture of {experts} experts; it prunes {SUPPORTED}"
        )
    if "tokenizer.ggml.tokens" not in header.facts:
        raise ModelError(
            f"{header.file} holds no tokenizer, so no text can be given to the model; use a file with the whole model"
        )
