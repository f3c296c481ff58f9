"""Compare the predictions of two models by the Kullback-Leibler divergence of the next token.

Both models' logits stay in the type of their forward pass. The softmax is computed in float32 for a few tokens at a
time, and the gradient overwrites the dense model's logits, so that memory holds two tensors of logits at most.
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
        for own, target in zip(_slices(student), _slices(dense), strict=True):
            log_q, log_p = own.float().log_softmax(-1), target.float().log_softmax(-1)
            p = log_p.exp()
            total += log_p.sub_(log_q).mul_(p).sum() * scale
            target.copy_(log_q.exp_().sub_(p).mul_(scale))
        ctx.save_for_backward(dense)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]  # of the context that torch makes
        return gradient.view(gradient.shape).mul_(gradients[0]), None, None


def divergence(student: Tensor, dense: Tensor, scale: float) -> Tensor:
    """Return scale · Σ KL(dense ‖ student) over all tokens, (), in nats; the dense model's logits are overwritten.

    Args:
        student: (windows, length, vocabulary) logits.
        dense: those of the dense model.
        scale: such as 1 / (number of tokens in a step).
    """
    result: Tensor = _Divergence.apply(student, dense, scale)
    return result


@torch.no_grad()
def losses(student: Tensor, dense: Tensor, tokens: Tensor) -> tuple[float, float]:
    """Return Σ KL(dense ‖ student), and the student's Σ −log p of the text's next tokens, both in nats.

    Args:
        student: (windows, length, vocabulary) logits.
        dense: those of the dense model.
        tokens: (windows, length), the text.
    """
    divergence = torch.zeros((), device=student.device, dtype=torch.float64)
    negative_log_likelihood = torch.zeros((), device=student.device, dtype=torch.float64)
    for window, window_student, window_dense in zip(tokens, student, dense, strict=True):
        following = torch.cat([window[1:], window[:1]])  # the last token has none; it is left out below
        last = len(window) - 1
        start = 0
        for own, target in zip(_slices(window_student), _slices(window_dense), strict=True):
            log_q, log_p = own.float().log_softmax(-1), target.float().log_softmax(-1)
            stop = start + len(own)
            next_log_q = log_q.gather(-1, following[start:stop, None])[:, 0]
            negative_log_likelihood -= next_log_q[: max(0, last - start)].double().sum()
            divergence += (log_p.exp() * (log_p - log_q)).sum().double()
            start = stop
    return float(divergence), float(negative_log_likelihood)


def _slices(logits: Tensor) -> tuple[Tensor, ...]:
    flat = logits.view(-1, logits.shape[-1])
    return torch.split(flat, max(1, _SLICE_NUMBERS[logits.device.type] // flat.shape[1]))
