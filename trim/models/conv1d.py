"""Layers whose weights the model's files hold transposed, as GPT-2 and its kin do."""

import torch
from torch import nn


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
