"""The weights that a recovery trains, as one vector: the kept weights of the blocks, their biases and norms.

Gradients, the optimizer's state and float32 values exist for these weights alone, so that their memory grows with the
number of kept weights. Pruned weights stay zero, because nothing writes to them.
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.95)
EPSILON = 1e-8
# For each kept weight: its float32 value, its gradient, Adam's two averages, and its index.
STATE_BYTES = 4 * 4 + 8


@dataclass(frozen=True, eq=False)
class _Part:
    """One parameter's part of the vector.

    Attributes:
        parameter: the model's parameter, in the type of the forward pass.
        indices: flat indices of its kept weights; None: the whole parameter is trained.
        start, stop: the range of its weights in the vector.
    """

    parameter: nn.Parameter
    indices: Tensor | None
    start: int
    stop: int


class KeptWeights:
    """The trained weights of a model and the state of Adam, whose step also writes them into the model.

    Attributes:
        values: (K,) float32; the model's weights are these, rounded to its type.
        gradient: (K,) float32, added to by each backward pass.
        first, second: (K,) float32, Adam's running averages of the gradient and of its square.
        steps: the number of steps so far.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Find the zeros of the matrices, which stay; all other weights are trained.

        Args:
            named: the parameters by name; zeros stay in matrices and larger tensors only.
        """
        self._parts: dict[str, _Part] = {}
        start = 0
        for name, parameter in named:
            flat = parameter.detach().reshape(-1)
            indices = None if parameter.ndim < 2 or bool(flat.all()) else flat.nonzero()[:, 0]
            stop = start + (flat.numel() if indices is None else len(indices))
            self._parts[name] = _Part(parameter, indices, start, stop)
            start = stop
        device = next(iter(self._parts.values())).parameter.device
        self.values = torch.empty(start, device=device)
        for part in self._parts.values():
            self.values[part.start : part.stop] = _trained_values(part, part.parameter.detach())
        self.gradient, self.first, self.second = (torch.zeros_like(self.values) for _ in range(3))
        self.steps = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors from which a stopped training resumes, by name; they are not copied."""
        return {"values": self.values, "first": self.first, "second": self.second}

    def typical_size(self) -> float:
        """Return the median over the matrices of the root mean square of their kept weights.

        It scales the learning rate, because models differ in it tenfold.
        """
        sizes = [
            float(self.values[part.start : part.stop].square().mean().sqrt())
            for part in self._parts.values()
            if part.parameter.ndim >= 2 and part.stop > part.start
        ]
        return sorted(sizes)[len(sizes) // 2] if sizes else 1.0

    def collect_gradients(self) -> None:
        """Let each backward pass add to `gradient`; parameters keep no gradients themselves."""
        for part in self._parts.values():
            part.parameter.requires_grad_(True)
            part.parameter.register_post_accumulate_grad_hook(functools.partial(self._collect, part))

    def _collect(self, part: _Part, parameter: Tensor) -> None:
        """Move a parameter's gradient into the vector as soon as a backward pass has computed it."""
        if parameter.grad is not None:
            self.gradient[part.start : part.stop] += _trained_values(part, parameter.grad)
            parameter.grad = None

    def __len__(self) -> int:
        """Return the number of trained weights."""
        return len(self.values)

    def step(self, rate: float, max_norm: float) -> None:
        """Make a step of Adam; the gradient is clipped to `max_norm` before, and set to 0 afterwards."""
        self.steps += 1
        norm = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_((max_norm / (norm + EPSILON)).clamp(max=1.0))
        self.first.lerp_(self.gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(self.gradient, self.gradient, value=1 - BETAS[1])
        size = rate / (1 - BETAS[0] ** self.steps)
        # The gradient is not needed any more: its memory is reused for the denominator.
        torch.sqrt(self.second, out=self.gradient)
        self.gradient.div_(math.sqrt(1 - BETAS[1] ** self.steps)).add_(EPSILON)
        self.values.addcdiv_(self.first, self.gradient, value=-size)
        self.gradient.zero_()
        self.write(self.values)

    def write(self, values: Tensor) -> None:
        """Round values into the model's weights."""
        with torch.no_grad():
            for part in self._parts.values():
                own = values[part.start : part.stop].to(part.parameter.device, part.parameter.dtype)
                if part.indices is None:
                    part.parameter.copy_(own.view_as(part.parameter))
                else:
                    part.parameter.view(-1)[part.indices] = own

    def restart(self, values: Tensor) -> None:
        """Restore earlier values, and reset Adam's averages."""
        self.values.copy_(values)
        for state in (self.gradient, self.first, self.second):
            state.zero_()
        self.steps = 0
        self.write(self.values)

    def tensor(self, name: str, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a parameter as it is with these values, in host memory and rounded to a type."""
        part = self._parts[name]
        own = values[part.start : part.stop].cpu().to(dtype)
        if part.indices is None:
            return own.view(part.parameter.shape)
        whole = torch.zeros(part.parameter.numel(), dtype=dtype)
        whole[part.indices.cpu()] = own
        return whole.view(part.parameter.shape)

    def rows_moved(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        """Return ‖after − before‖ / ‖before‖ of each row of a matrix, (D,) float32; NaN for a row without weights."""
        old, new = (self.tensor(name, values, torch.float32).double() for values in (before, after))
        moved: Tensor = (new - old).norm(dim=1) / old.norm(dim=1)
        return moved.float()

    def matrices(self) -> list[str]:
        """Return the names of the parameters that are matrices."""
        return [name for name, part in self._parts.items() if part.parameter.ndim == 2]


def _trained_values(part: _Part, tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor at the indices of a part's trained weights, float32."""
    flat = tensor.reshape(-1)
    return (flat if part.indices is None else flat.index_select(0, part.indices)).float()
