"""GGUF files: their weights, dequantized once and cached.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from trim.cache import cache_folder, cached_folder, fingerprint
from trim.devices import is_out_of_memory, require_memory
from trim.errors import CacheError, ModelError, NotEnoughMemoryError
from trim.models.architecture import blueprint
from trim.models.checkpoint import quiet
from trim.models.gguf_config import parameter_names, read_config
from trim.models.gguf_header import GgufHeader, GgufTensor, cut_short, read_gguf_header
from trim.models.replaced import replaced
from trim.models.weight_files import WEIGHTS
from trim.progress import Meter, ProgressListener

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# All weights in float16, and for one tensor at a time also those in float32 and their rearranged copy.
_BYTES_PER_PARAMETER, _BYTES_OF_ONE_TENSOR = 2, 8


def gguf_blueprint(header: GgufHeader) -> "PreTrainedModel":
    """Build the model of a GGUF file on torch's meta device, from the header alone.

    Raises:
        ModelError: the file cannot be read as it was meant, or holds a model that cannot be pruned.
    """
    _require_complete(header)
    module = blueprint(read_config(header))
    parameter_names(header, module)
    return module


def lost_tensors(header: GgufHeader) -> list[str]:
    """Return the names of the tensors that do not end within their file, because it was cut short."""
    size = header.path.stat().st_size
    return [name for name, tensor in header.tensors.items() if _end(tensor) > size]


def dequantized_folder(path: Path, sha256: str, progress: ProgressListener, *, partly: bool = False) -> Path:
    """Make a cached folder with the float16 weights and the tokenizer of a GGUF file.

    Reading a GGUF takes several seconds, loading this folder one. Its name changes when the file changes, or the
    configuration that is made from its header.

    Args:
        path: the file.
        sha256: hash of the file's content.
        progress: called after each tensor.
        partly: whether to read a file that was cut short in part, without a tokenizer.

    Raises:
        ModelError: the file cannot be read, or holds a model that cannot be pruned.
        NotEnoughMemoryError: there is not enough memory to dequantize the weights.
        CacheError: there is no room on the disk for the dequantized weights.
    """
    header = read_gguf_header(path, partly=partly)
    _require_complete(header)
    if not partly and lost_tensors(header):
        raise ModelError(cut_short(path))
    config = read_config(header)
    key = fingerprint({"file": sha256, "config": json.loads(config.to_json_string(use_diff=False))})
    target = cache_folder() / "models" / key[:32]
    try:
        return cached_folder(target, lambda folder: _dequantize(header, folder, progress))
    except (OSError, SafetensorError) as error:
        raise CacheError(
            f"the dequantized weights of {path.name} cannot be cached in {target.parent} "
            f"({getattr(error, 'strerror', None) or error}); make room there or make it writable for you, or set "
            "TRIM_CACHE to another folder"
        ) from error


def _dequantize(header: GgufHeader, folder: Path, progress: ProgressListener) -> None:
    """Fill a folder with the contents of a GGUF file."""
    path, largest = header.path, max(math.prod(tensor.shape) for tensor in header.tensors.values())
    require_memory(
        _BYTES_PER_PARAMETER * header.parameters + _BYTES_OF_ONE_TENSOR * largest,
        torch.device("cpu"),
        f"dequantizing the weights of {path.name}",
        "close other programs, or load the model from a folder with safetensors, which needs less",
    )
    meter = Meter(progress, of=header.parameters)
    meter.report(f"Unpacking {path.name} (once): its structure")
    module = gguf_blueprint(header)
    meter.report(f"Unpacking {path.name} (once): its tokenizer")
    from transformers import AutoTokenizer, modeling_gguf_pytorch_utils

    if lost_tensors(header):
        save_file(_weights(header, module, meter), folder / WEIGHTS, {"format": "pt"})
        module.config.save_pretrained(folder)
        return
    # Without this answer, transformers would spend seconds on reading the header again for the model's type.
    answer = {"config": {"model_type": module.config.model_type}}
    try:
        with quiet(), replaced(modeling_gguf_pytorch_utils, "load_gguf_checkpoint", lambda *_, **__: answer):
            tokenizer = AutoTokenizer.from_pretrained(
                path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
            )
        loaded = module.load_state_dict(_weights(header, module, meter), strict=False, assign=True)
        module.tie_weights(missing_keys=set(loaded.missing_keys))
    except Exception as error:  # the parsers are not ours; the Rust one raises plain Exception
        if is_out_of_memory(error):
            raise NotEnoughMemoryError(
                f"memory filled up while {path.name} was dequantized; close other programs"
            ) from error
        raise ModelError(
            f"transformers cannot read {path.name} (architecture {header.architecture!r}): the file is damaged, or "
            "its types are not supported; load the model's folder with safetensors instead"
        ) from error
    meter.report(f"Unpacking {path.name} (once): writing the weights")
    with quiet():
        module.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _weights(header: GgufHeader, module: "PreTrainedModel", meter: Meter) -> dict[str, Tensor]:
    """Read the float16 weights by the model's names, and dequantize and rearrange one at a time."""
    from gguf import GGMLQuantizationType, dequantize
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(module.config.to_dict())
    content = np.memmap(header.path, mode="r").view(np.ndarray)
    weights: dict[str, Tensor] = {}
    complete = header.tensors.keys() - lost_tensors(header)
    for stored, names in parameter_names(header, module).items():
        if stored in complete:
            tensor = header.tensors[stored]
            rows = content[tensor.start : _end(tensor)].reshape(*tensor.shape[:-1], -1)
            values = dequantize(rows, GGMLQuantizationType(tensor.kind))  # to float32
            read = torch.tensor(processor.process(values, stored).weights, dtype=torch.float16)
            weights |= zip(names, read if len(names) > 1 else [read], strict=True)
            meter.report(f"Unpacking {header.path.name} (once)", meter.done + read.numel())
    return weights


def _end(tensor: GgufTensor) -> int:
    """Return the byte after a tensor's last one; for an unknown type, its first."""
    from gguf import GGML_QUANT_SIZES

    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    block, size = sizes.get(tensor.kind, (1, 0))
    return tensor.start + math.prod(tensor.shape) // block * size


def _require_complete(header: GgufHeader) -> None:
    if (parts := header.count("split.count", 1)) > 1:
        raise ModelError(
            f"{header.file} is one of {parts} parts of a model; merge them first: "
            "llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        )
    if "tokenizer.ggml.tokens" not in header.metadata:
        raise ModelError(
            f"{header.file} holds no tokenizer, so no text can be given to the model; use a file with the whole model"
        )
