"""Which models can be pruned row by row, and where their blocks are: by structure, not by a list of names."""

import contextlib
import copy
import itertools
import threading
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.module import register_module_parameter_registration_hook

from trim.errors import ModelError
from trim.models.replay import record_calls
from trim.models.tensor_files import MAX_TENSORS
from trim.names import one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SUPPORTED = "Llama, Mistral, Qwen2, Qwen2.5, Qwen3, Gemma 2 and 3 (text), OPT and decoders built like them"
_MAX_BUFFER_ELEMENTS = 2**28
_TRIAL = (2, 3)  # sequences and tokens of the text without numbers
# Configurations that a text has gone through in this process: a run asks several times.
_SOUND: set[str] = set()


class Reason(StrEnum):
    """Why a model cannot be pruned."""

    ENCODER = "it is an encoder or has one, and is not a decoder that only reads from left to right"
    MORE_THAN_TEXT = "it reads more than text; use the text-only model of the family if there is one"
    EXPERTS = (
        "it is a mixture of experts, of whose layers each token passes only a few, and these cannot be pruned yet; "
        "choose a dense model of the family"
    )
    NO_LINEAR_LAYERS = "it has no row of blocks whose weights are mostly in linear layers (nn.Linear)"
    RECURRENT_STATE = "its blocks keep a recurrent state, and use layers for it without calling them"
    UNCALLED = "its blocks use layers without calling them"
    SHARED = "several of its blocks share the weights of layers"
    DEPENDENT_BLOCKS = "its blocks need more of each other than one row of hidden states"
    OWN_BUFFERS = "it computes a table that no checkpoint holds in a way of its own"
    OTHERWISE_STORED = "its files hold layers joined or in parts"
    CODE = "it needs code from its own repository, which TRIM Lab never runs"
    CONFIGURATION = "transformers cannot make a causal language model of its config.json"


def check_config(config: "PretrainedConfig") -> None:
    """Refuse a model that its configuration shows not to be a plain decoder, before any weight is read.

    Raises:
        ModelError: an encoder, an encoder-decoder, a model of more than text, or a quantized checkpoint.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    architectures = getattr(config, "architectures", None) or [type(config).__name__.removesuffix("Config")]
    name = architectures[0]
    if getattr(config, "quantization_config", None):
        raise ModelError(
            f"this {name} checkpoint is quantized, so its layers are not plain matrices to prune; load the "
            "checkpoint it was made from, or a GGUF file, which is dequantized on loading"
        )
    if config.is_encoder_decoder or config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise unsupported(name, Reason.ENCODER)
    try:
        several = config.get_text_config() is not config
    except ValueError:  # of several texts, none is the one
        several = True
    other = any(sense in part for part in config.sub_configs for sense in ("vision", "audio"))
    if several or other or any("ForConditionalGeneration" in architecture for architecture in architectures):
        raise unsupported(name, Reason.MORE_THAN_TEXT)


def blueprint(config: "PretrainedConfig") -> "PreTrainedModel":
    """Build the model of a configuration on torch's meta device: its structure and sizes, without memory for weights.

    A text goes through it block by block, without numbers, so that what cannot be pruned is found here.

    Raises:
        ModelError: the model cannot be pruned row by row.
    """
    from transformers import AutoModelForCausalLM

    check_config(config)
    name = (getattr(config, "architectures", None) or [config.model_type])[0]
    try:
        with torch.device("meta"), _few_parameters(name):
            module: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except ModelError:
        raise
    except ValueError as error:
        raise unsupported(name, Reason.CONFIGURATION) from error
    except Exception as error:  # as many kinds as there are architectures
        raise unsupported(name, Reason.CONFIGURATION, one_line(str(error))) from error
    make_linear(module)
    find_blocks(module.eval())
    tried = config.to_json_string(use_diff=False)
    if tried not in _SOUND:
        trial = copy.deepcopy(module)
        with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
            _place(trial)
            _require_block_by_block(trial)
        tables = sum(buffer.numel() for buffer in module.buffers())
        if tables > _MAX_BUFFER_ELEMENTS:
            raise unsupported(name, Reason.CONFIGURATION, f"its tables would hold {tables:,} numbers")
        compute_buffers(copy.deepcopy(module), torch.device("cpu"))
        _SOUND.add(tried)
    return module


@contextlib.contextmanager
def _few_parameters(name: str) -> Iterator[None]:
    """Stop where a model of more tensors than any is built here: a configuration may ask for any number."""
    thread, counted = threading.get_ident(), itertools.count(1)

    def count(*_: object) -> None:
        if threading.get_ident() == thread and next(counted) > MAX_TENSORS:
            raise unsupported(name, Reason.CONFIGURATION, f"it would have over {MAX_TENSORS:,} tensors")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


class TransposedLinear(nn.Linear):
    """A linear layer of which the model's files hold the weight transposed, (N, D)."""


def make_linear(module: nn.Module) -> None:
    """Replace every `Conv1D` of `transformers` (GPT-2 and its kin) by the linear layer that it is, in place."""
    from transformers.pytorch_utils import Conv1D

    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, Conv1D):
                columns, rows = child.weight.shape
                with torch.device("meta"):
                    linear = TransposedLinear(columns, rows)
                linear.weight = nn.Parameter(child.weight.detach().t().contiguous(), requires_grad=False)
                linear.bias = child.bias
                setattr(part, name, linear.train(child.training))


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """Find the transformer blocks: the longest `nn.ModuleList` whose members all hold linear layers.

    Raises:
        ModelError: there is no such list, its members are mixtures of experts or share weights, or most of their
            weights are not in linear layers.
    """
    name = type(module).__name__
    if any(_is_experts(path, part) for path, part in module.named_modules()):
        raise unsupported(name, Reason.EXPERTS)
    stacks = [
        list(part)
        for part in module.modules()
        if isinstance(part, nn.ModuleList) and len(part) and all(_linear_layers(block) for block in part)
    ]
    if not stacks:
        others = {type(part).__name__ for part in module.modules() if _owns_matrix(part)}
        raise unsupported(name, Reason.NO_LINEAR_LAYERS, f"but {', '.join(sorted(others))}" if others else "")
    blocks = max(stacks, key=len)
    layers = [layer for block in blocks for layer in _linear_layers(block)]
    if len({id(layer.weight) for layer in layers}) < len(layers):
        raise unsupported(name, Reason.SHARED)
    inside = sum(layer.weight.numel() for layer in layers)
    total = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    if 2 * inside < total:
        raise unsupported(name, Reason.NO_LINEAR_LAYERS, f"only {inside / total:.0%} of them")
    return blocks


def _linear_layers(block: nn.Module) -> list[nn.Linear]:
    return [part for part in block.modules() if isinstance(part, nn.Linear)]


def _owns_matrix(part: nn.Module) -> bool:
    """Return whether a module that is neither a linear layer nor an embedding table has a matrix of its own."""
    return not isinstance(part, nn.Linear | nn.Embedding) and any(
        parameter.ndim >= 2 for parameter in part.parameters(recurse=False)
    )


def _is_experts(path: str, part: nn.Module) -> bool:
    """Return whether a module is the experts of a block: a list of layers, or their weights in one tensor."""
    several = isinstance(part, nn.ModuleList) and len(part) > 1
    named = f"{path.rpartition('.')[2]} {type(part).__name__}".lower()
    return "expert" in named and (several or _owns_matrix(part))


def compute_buffers(module: "PreTrainedModel", device: torch.device) -> None:
    """Give a model on the meta device the buffers that no checkpoint holds, such as rotary tables.

    Raises:
        ModelError: a module computes one in a way of its own.
    """
    for part in module.modules():
        computed = [leaf for leaf in part._non_persistent_buffers_set if part._buffers[leaf] is not None]
        own = [
            name for name, value in vars(part).items() if isinstance(value, torch.Tensor) and value.is_meta
        ]
        for leaf in computed:
            empty = torch.empty_like(part.get_buffer(leaf), device=device)
            part._buffers[leaf] = empty.fill_(torch.nan) if empty.is_floating_point() else empty
        try:
            if computed:
                with torch.no_grad():
                    module._init_weights(part)  # as transformers fills what no checkpoint holds
        except (AttributeError, RuntimeError):
            own += computed
        own += [leaf for leaf in computed if bool(part.get_buffer(leaf).isnan().any())]
        if own:
            raise unsupported(type(module).__name__, Reason.OWN_BUFFERS, f"{own[0]} of {type(part).__name__}")


def _place(module: nn.Module) -> None:
    """Let the tensors of a model on the meta device be where a forward pass expects them, still without numbers."""
    for part in module.modules():
        held: dict[str, object]
        for held in (vars(part), vars(part)["_parameters"], vars(part)["_buffers"]):
            for name, tensor in held.items():
                if isinstance(tensor, torch.Tensor):
                    held[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def _require_block_by_block(module: "PreTrainedModel") -> None:
    """Let a text without numbers through the blocks, one after the other, as they are pruned.

    Raises:
        ModelError: the blocks need more than hidden states of each other, or have layers that are never called.
    """
    name, blocks = type(module).__name__, find_blocks(module)
    if any(getattr(part, "is_causal", None) is False for block in blocks for part in block.modules()):
        raise unsupported(name, Reason.ENCODER)
    hidden = getattr(module.config.get_text_config(), "hidden_size", None)
    try:
        tokens = torch.zeros(_TRIAL, dtype=torch.int64)
        states, calls = record_calls(module, blocks, tokens, None)
    except ModelError:
        raise
    except Exception as error:
        raise unsupported(name, Reason.DEPENDENT_BLOCKS, "they cannot be run one after the other") from error
    if states.shape != (*_TRIAL, hidden):
        raise unsupported(name, Reason.DEPENDENT_BLOCKS)
    called: set[nn.Module] = set()
    for index, (block, call) in enumerate(zip(blocks, calls, strict=True)):
        layers = {path: part for path, part in block.named_modules() if isinstance(part, nn.Linear)}
        hooks = [
            layer.register_forward_pre_hook(lambda layer, _: called.add(layer)) for layer in layers.values()
        ]
        try:
            shape = call.replay(block, states).shape
        except ModelError:
            raise
        except Exception as error:
            raise unsupported(name, Reason.DEPENDENT_BLOCKS) from error
        finally:
            for hook in hooks:
                hook.remove()
        if shape != states.shape:
            raise unsupported(name, Reason.DEPENDENT_BLOCKS, "they change the shape of these")
        if idle := [path for path, layer in layers.items() if layer not in called]:
            reason = Reason.UNCALLED
            if any(isinstance(part, nn.Conv1d) for part in block.modules()):
                reason = Reason.RECURRENT_STATE
            elif "encoder" in idle[0]:  # attention to what an encoder has read
                reason = Reason.ENCODER
            raise unsupported(name, reason, f"{index}.{idle[0]}")


def unsupported(name: str, reason: Reason, what: str = "") -> ModelError:
    """Return the error that says why a model cannot be pruned, and `what` of it shows that."""
    return ModelError(
        f"TRIM Lab cannot prune {name}: {reason}{f' ({what})' if what else ''}; it prunes {SUPPORTED}"
    )
