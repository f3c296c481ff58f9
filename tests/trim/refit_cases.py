"""Layers to refit, and how good a refit is, by its formula."""

import torch

from trim.methods.least_squares import DAMPING, TextProducts
from trim.methods.refit import refit


def layer(rows=6, columns=20, tokens=80, sparsity=0.6, seed=0):
    """A weight, a mask, and texts in the dense and in the pruned model, whose features depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    mixed = torch.randn(columns, columns, generator=generator) / columns**0.5 + 0.3
    dense = mixed @ torch.randn(columns, tokens, generator=generator)
    pruned = dense + 0.3 * torch.randn(columns, tokens, generator=generator)
    keep = torch.rand(rows, columns, generator=generator) >= sparsity
    return weight, keep, dense, pruned


def products(dense, pruned, **more):
    return TextProducts(pruned @ pruned.T, dense @ pruned.T, **more)


def refitted(weight, keep, dense, pruned, damping=DAMPING, **more):
    return refit(weight, keep, products(dense, pruned, damping=damping), **more)


def objective(weight, fitted, dense, pruned, damping=DAMPING):
    """‖w X − ŵ X̂‖² + λ ‖w − ŵ‖² of each row, float64."""
    weight, fitted, dense, pruned = (values.double() for values in (weight, fitted, dense, pruned))
    ridge = damping * pruned.square().sum(dim=1).mean()
    error = (weight @ dense - fitted @ pruned).square().sum(dim=1)
    return error + ridge * (weight - fitted).square().sum(dim=1)
