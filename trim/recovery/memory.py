"""Estimate the memory of a recovery before anything is loaded, and choose how many windows fit into one pass."""

from dataclasses import dataclass

import torch

from trim.devices import available_bytes
from trim.errors import NotEnoughMemoryError
from trim.names import format_bytes
from trim.recovery.kept import STATE_BYTES

# A forward pass stores this many numbers per token for each input and output of a linear layer: the inputs of layers,
# the products of gates, norms in float32.
_STORED_NUMBERS = 3
_RESERVE = 0.05  # the additional share for libraries and fragmentation


@dataclass(frozen=True)
class ModelSizes:
    """The sizes that the memory of a recovery depends on.

    Attributes:
        parameters: the number of the model's parameters.
        trained: the number of trained parameters.
        widths: the sum of inputs and outputs over the linear layers of all blocks.
        blocks, hidden, vocabulary: the model's sizes.
        itemsize: bytes of a number in the type of the forward pass.
    """

    parameters: int
    trained: int
    widths: int
    blocks: int
    hidden: int
    vocabulary: int
    itemsize: int

    @property
    def fixed_bytes(self) -> int:
        """Bytes that do not depend on the pass: both models, Adam's state and the best weights so far."""
        return 2 * self.parameters * self.itemsize + self.trained * (STATE_BYTES + self.itemsize)

    def pass_bytes(self, tokens: int, checkpointing: bool) -> int:
        """Bytes of one forward and backward pass over this many tokens."""
        inside = _STORED_NUMBERS * self.widths * self.itemsize
        if checkpointing:
            inside = inside // self.blocks + self.blocks * self.hidden * self.itemsize
        logits = 3 * self.vocabulary * self.itemsize
        return tokens * (inside + logits) + 12 * 2**20 * self.itemsize


@dataclass(frozen=True)
class MemoryPlan:
    """The passes of a training step.

    Attributes:
        windows: windows in one pass; a step may need several passes.
        checkpointing: whether blocks are computed again in the backward pass instead of being kept.
        bytes: the memory that the training needs.
    """

    windows: int
    checkpointing: bool
    bytes: int


def plan_memory(sizes: ModelSizes, windows: int, length: int, device: torch.device) -> MemoryPlan:
    """Choose the largest pass that fits; blocks are computed again only if a single window does not fit otherwise.

    Args:
        sizes: the model's sizes.
        windows: the number of windows in a step.
        length: tokens of a window.
        device: the device of the training.

    Raises:
        NotEnoughMemoryError: a single window does not fit; the message names the needed and the free memory.
    """
    free = available_bytes(device)
    needed = 0
    for checkpointing in (False, True):
        count = windows
        while count:
            needed = int(
                (sizes.fixed_bytes + sizes.pass_bytes(count * length, checkpointing)) * (1 + _RESERVE)
            )
            if needed <= free:
                return MemoryPlan(count, checkpointing, needed)
            count //= 2
    where = "this machine" if device.type == "cpu" else f"the GPU ({device})"
    half = ", or a 16-bit type (--dtype bfloat16)" if sizes.itemsize == 4 else ""
    raise NotEnoughMemoryError(
        f"recovering needs about {format_bytes(needed)} of memory: the dense and the pruned model, their kept weights "
        f"with the state of the optimizer, and one window of {length:,} tokens; {where} has {format_bytes(free)} free. "
        f"Use shorter windows (--length){half}, or a smaller model"
    )
