"""Compare the predictions of two models by the Kullback-Leibler divergence of the next token.

Both models' logits are held in the type of their forward pass. What has to be float32 is computed for few tokens at a
time, and the gradient takes the place of the dense model's logits: memory holds two tensors of logits at most.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

_SLICE_NUMBERS = {"cpu": 2**23, "cuda": 2**27}  # logits that are converted to float32 at a time


class _Divergence(torch.autograd.Function):
    """Σ over tokens of KL(dense ‖ student) · scale; its gradient overwrites the dense model's logits."""

    @staticmethod
    def forward(ctx: FunctionCtx, student: Tensor, dense: Tensor, scale: float) -> Tensor:
        total = torch.zeros((), device=student.device)
        for own, other in zip(_slices(student), _slices(dense), strict=True):
            ours, theirs = own.float().log_softmax(-1), other.float().log_softmax(-1)
            chances = theirs.exp()
            total += theirs.sub_(ours).mul_(chances).sum() * scale
            other.copy_(ours.exp_().sub_(chances).mul_(scale))
        ctx.save_for_backward(dense)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]  # of the context that torch makes
        return gradient.view(gradient.shape).mul_(gradients[0]), None, None


def divergence(student: Tensor, dense: Tensor, scale: float) -> Tensor:
    """Return scale · Σ KL(dense ‖ student) over all tokens, (), in nats; the dense model's logits are used up.

    Args:
        student: (windows, length, vocabulary) logits.
        dense: those of the dense model.
        scale: such as 1 / how many tokens a step has.
    """
    result: Tensor = _Divergence.apply(student, dense, scale)
    return result


@torch.no_grad()
def losses(student: Tensor, dense: Tensor, tokens: Tensor) -> tuple[float, float]:
    """Sum over the tokens of a text the divergence from the dense model, and −log p of the text's own next token.

    `tokens`: (windows, length).
    """
    apart = torch.zeros((), device=student.device, dtype=torch.float64)
    surprise = torch.zeros((), device=student.device, dtype=torch.float64)
    for window, ours, theirs in zip(tokens, student, dense, strict=True):
        following = torch.cat([window[1:], window[:1]])  # the last has none, and its place is not counted
        last = len(window) - 1
        start = 0
        for own, other in zip(_slices(ours), _slices(theirs), strict=True):
            log_ours, log_theirs = own.float().log_softmax(-1), other.float().log_softmax(-1)
            stop = start + len(own)
            picked = log_ours.gather(-1, following[start:stop, None])[:, 0]
            surprise -= picked[: max(0, last - start)].double().sum()
            apart += (log_theirs.exp() * (log_theirs - log_ours)).sum().double()
            start = stop
    return float(apart), float(surprise)


def _slices(logits: Tensor) -> tuple[Tensor, ...]:
    flat = logits.view(-1, logits.shape[-1])
    return torch.split(flat, max(1, _SLICE_NUMBERS[logits.device.type] // flat.shape[1]))
