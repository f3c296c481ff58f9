"""Find a model's blocks, and check that it can be pruned row by row: by structure, not by a list of names."""

import contextlib
import copy
import itertools
import json
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.module import register_module_parameter_registration_hook

from trim.errors import ModelError
from trim.models.conv1d import make_linear
from trim.models.dense import DenseLinear, keep_dense
from trim.models.joined_experts import split_experts
from trim.models.reasons import SUPPORTED, Reason, unsupported
from trim.models.replaced import replaced
from trim.models.tensor_files import MAX_TENSORS
from trim.models.towers import auto_class, other_towers, text_stacks
from trim.models.trial import Trial, try_blocks
from trim.names import one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

UNBUILT = "transformers cannot make a causal language model of its config.json"
_MAX_BUFFER_ELEMENTS = 2**28
_TRIALS: dict[str, Trial] = {}  # cached by configuration


def check_config(config: "PretrainedConfig") -> None:
    """Require the configuration of a plain decoder, before any weight is read.

    Raises:
        ModelError: an encoder, an encoder-decoder, or a quantized checkpoint.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    architectures = getattr(config, "architectures", None) or [type(config).__name__.removesuffix("Config")]
    name = architectures[0]
    if quantization := getattr(config, "quantization_config", None):
        advice = "load the checkpoint it was made from, or a GGUF file, which is dequantized on loading"
        if "mxfp4" in str(quantization):
            advice = (
                "dequantize it once: AutoModelForCausalLM.from_pretrained(…, dtype=torch.bfloat16, quantization_config="
                "Mxfp4Config(dequantize=True)).save_pretrained(FOLDER), both from transformers, and prune that folder"
            )
        raise ModelError(
            f"this {name} checkpoint is quantized, so its layers are not plain matrices to prune; {advice}"
        )
    if hasattr(config, "thinker_config"):  # Qwen Omni
        raise unsupported(
            name,
            Reason.ENCODER,
            "it also speaks; save only its text model (thinker) with save_pretrained, and prune that",
        )
    try:
        text = config.get_text_config()
    except ValueError as error:  # it reads and writes texts in separate towers
        raise unsupported(name, Reason.ENCODER) from error
    for part in (config, text):
        if part.is_encoder_decoder or part.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            raise unsupported(name, Reason.ENCODER)


def blueprint(config: "PretrainedConfig") -> "PreTrainedModel":
    """Build the model of a configuration on torch's meta device: its structure and sizes, without memory for weights.

    A trial runs fake tensors through its blocks, so that layers that cannot be pruned are found here.

    Raises:
        ModelError: the model cannot be pruned row by row.
    """
    check_config(config)
    name = (getattr(config, "architectures", None) or [config.model_type])[0]
    key = _structure_key(config)
    try:
        with _limit_parameters(name):
            with torch.device("meta"):
                module: PreTrainedModel = auto_class(config, name).from_config(
                    config, trust_remote_code=False
                )
            make_linear(module)
            if key not in _TRIALS:
                small = copy.deepcopy(module)
                split_experts(small, first_only=True)
            split_experts(module)
    except ModelError:
        raise
    except ImportError as error:
        raise unsupported(name, Reason.CODE, one_line(str(error))) from error
    except Exception as error:  # each architecture raises its own
        raise _cannot_build(name, "" if isinstance(error, ValueError) else one_line(str(error))) from error
    blocks = find_blocks(module.eval())
    if key not in _TRIALS:
        trial = copy.deepcopy(small.eval())
        # The problems that a trial finds are raised as errors, and not logged.
        silent = replaced(logging.getLogger("torch._subclasses.fake_tensor"), "disabled", True)
        with silent, FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
            _make_fake(trial)
            found = try_blocks(trial, find_blocks(trial))
        tables = sum(buffer.numel() for buffer in module.buffers())
        if tables > _MAX_BUFFER_ELEMENTS:
            raise _cannot_build(name, f"its tables would hold {tables:,} elements")
        compute_buffers(small, torch.device("cpu"))
        _TRIALS[key] = found
    keep_dense(blocks, _TRIALS[key].dense)
    return module


def prepare(module: "PreTrainedModel") -> None:
    """Convert the layers of a loaded model as `blueprint` does: only those that can be pruned stay `nn.Linear`."""
    make_linear(module)
    split_experts(module)
    keep_dense(find_blocks(module), trial_of(module).dense)


def trial_of(module: "PreTrainedModel") -> Trial:
    """Return the cached result of a model's trial, or run it."""
    if _structure_key(module.config) not in _TRIALS:
        blueprint(module.config)
    return _TRIALS[_structure_key(module.config)]


def _structure_key(config: "PretrainedConfig") -> str:
    """Return the part of a configuration that decides the model's structure, as a cache key."""

    def structure(settings: dict[str, object]) -> dict[str, object]:
        return {
            name: structure(value) if isinstance(value, dict) else value
            for name, value in settings.items()
            if name not in ("_name_or_path", "dtype", "architectures", "transformers_version")
        }

    return json.dumps(structure(json.loads(config.to_json_string(use_diff=False))), sort_keys=True)


def _cannot_build(name: str, what: str = "") -> ModelError:
    """Return the error of a configuration from which no model can be built."""
    return ModelError(
        f"TRIM Lab cannot prune {name}: {UNBUILT}"
        f"{f' ({what})' if what else ''}; get it again, or choose another model: TRIM Lab prunes {SUPPORTED}"
    )


@contextlib.contextmanager
def _limit_parameters(name: str) -> Iterator[None]:
    """Refuse a model with more tensors than any real one, while it is built inside the `with` block."""
    thread, counted = threading.get_ident(), itertools.count(1)

    def count(*_: object) -> None:
        if threading.get_ident() == thread and next(counted) > MAX_TENSORS:
            raise _cannot_build(name, f"it would have over {MAX_TENSORS:,} tensors")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """Find the transformer blocks: the text tower's longest `nn.ModuleList` whose members all hold linear layers.

    Raises:
        ModelError: the list does not exist, or most weights of its members are not in linear layers.
    """
    name = type(module).__name__
    stacks = [list(part) for part in text_stacks(module) if all(_linear_layers(block) for block in part)]
    if not stacks:
        others = {type(part).__name__ for part in module.modules() if _owns_matrix(part)}
        raise unsupported(name, Reason.NO_LINEAR_LAYERS, f"but {', '.join(sorted(others))}" if others else "")
    blocks = max(stacks, key=len)
    inside = {layer.weight: layer.weight.numel() for block in blocks for layer in _linear_layers(block)}
    total = {parameter: parameter.numel() for block in blocks for parameter in block.parameters()}
    if 2 * sum(inside.values()) < sum(total.values()):
        share = sum(inside.values()) / sum(total.values())
        raise unsupported(
            name, Reason.NO_LINEAR_LAYERS, f"only {share:.0%} of their weights are in linear layers"
        )
    return blocks


def _linear_layers(block: nn.Module) -> list[nn.Linear | DenseLinear]:
    return [part for part in block.modules() if isinstance(part, nn.Linear | DenseLinear)]


def _owns_matrix(part: nn.Module) -> bool:
    """Return whether a module that is neither a linear layer nor an embedding table itself has a matrix."""
    return not isinstance(part, nn.Linear | nn.Embedding) and any(
        parameter.ndim >= 2 for parameter in part.parameters(recurse=False)
    )


def compute_buffers(module: "PreTrainedModel", device: torch.device) -> None:
    """Give a model on the meta device the buffers that no checkpoint holds, such as rotary tables.

    The buffers of towers that a text does not reach stay on the meta device. Their parameters move to the device
    without taking memory: `transformers` sends tokens to the device of the first parameter.

    Raises:
        ModelError: a buffer is computed in a way that is not known here.
    """
    unused = other_towers(module, find_blocks(module))
    for part in unused:
        for leaf, tensor in part._parameters.items():
            if tensor is not None:
                one = torch.empty((), dtype=tensor.dtype, device=device)
                part._parameters[leaf] = nn.Parameter(one.expand(tensor.shape), requires_grad=False)
    parts = {path: part for path, part in module.named_modules() if part not in unused}
    computed = {
        path: leaves
        for path, part in parts.items()
        if (leaves := [leaf for leaf in part._non_persistent_buffers_set if part._buffers[leaf] is not None])
    }
    for path, leaves in computed.items():
        for leaf in leaves:
            empty = torch.empty_like(parts[path].get_buffer(leaf), device=device)
            parts[path]._buffers[leaf] = empty.fill_(torch.nan) if empty.is_floating_point() else empty
    for path, leaves in computed.items():
        part, parent = parts[path], path
        _fill(parts, path)
        # Some buffers are filled by a module that contains this one.
        while parent and any(bool(part.get_buffer(leaf).isnan().any()) for leaf in leaves):
            parent = parent.rpartition(".")[0]
            _fill(parts, parent)
        if nan := [leaf for leaf in leaves if bool(part.get_buffer(leaf).isnan().any())]:
            raise _unfilled_buffer(module, part, nan[0])
    for part in parts.values():
        for leaf, value in vars(part).items():
            if isinstance(value, torch.Tensor) and value.is_meta:
                raise _unfilled_buffer(module, part, leaf)


def _fill(parts: dict[str, nn.Module], path: str) -> None:
    """Fill a part's buffers with the `_init_weights` of the model around it; those that it cannot fill stay NaN."""
    from transformers import PreTrainedModel

    parent = path
    while not isinstance(model := parts[parent], PreTrainedModel):
        parent = parent.rpartition(".")[0]
    with torch.no_grad(), contextlib.suppress(AttributeError, RuntimeError):
        model._init_weights(parts[path])


def _unfilled_buffer(module: nn.Module, part: nn.Module, leaf: str) -> ModelError:
    return _cannot_build(
        type(module).__name__, f"{leaf} of {type(part).__name__} is a table that no checkpoint holds"
    )


def _make_fake(module: nn.Module) -> None:
    """Replace the tensors of a model on the meta device by fake ones on the CPU, where a forward pass expects them."""
    for part in module.modules():
        held: dict[str, object]
        for held in (vars(part), vars(part)["_parameters"], vars(part)["_buffers"]):
            for name, tensor in held.items():
                if isinstance(tensor, torch.Tensor):
                    held[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
