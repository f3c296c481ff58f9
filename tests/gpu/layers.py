"""Random layers, on the CPU and on a CUDA device."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import trim

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@dataclass(frozen=True)
class Layer:
    """A random layer; `kind` says what is special about it."""

    rows: int
    columns: int
    vectors: int
    dtype: torch.dtype = torch.float32
    kind: str = ""
    seed: int = 0

    def arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, inputs and score, all finite, the first two of the layer's type."""
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        spread = torch.rand(self.rows, 1, generator=generator)
        weight = normal(self.rows, self.columns) * torch.exp(1.5 * spread * normal(self.rows, self.columns))
        inputs = normal(self.columns, self.vectors) * torch.exp(normal(self.columns, 1))
        if "dead rows" in self.kind:
            weight[::3] = 0
        if "zero inputs" in self.kind:
            inputs[::4] = 0
        weight, inputs = weight.to(self.dtype), inputs.to(self.dtype)
        score = trim.wanda_score(weight, inputs.float().norm(dim=1))
        if "ties" in self.kind:
            score = torch.floor(score / 2)
        return weight, inputs, score

    def curves(self, device: str) -> trim.RetentionCurves:
        """On the CPU from the same numbers in float32."""
        weight, inputs, score = (values.to(device) for values in self.arrays())
        return trim.retention_curves(weight, inputs, score)
