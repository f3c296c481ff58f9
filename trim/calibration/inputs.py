"""The inputs of the layers of a block: feature norms over all real tokens, and some input vectors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trim.calibration.layers import BatchInput
from trim.matmul import full_product
from trim.methods.least_squares import TextProducts

# The norms of fewer tokens are uncertain, so an expert that receives fewer is pruned by magnitude.
MIN_TOKENS = 32


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """The input of one layer.

    Attributes:
        inputs: (N, L), the kept input vectors; an expert that receives few tokens has fewer than other layers.
        input_norm: (N,) float32, √(Σ x_j² over real tokens / windows).
        text: products over the real tokens, except those held out; None: not captured.
        held_out: the same over the tokens held out; None: no tokens were held out.
        dense_inputs: (N, L), the layer's inputs in the dense model for the same tokens; None: not captured.
        stream_error: (D, L) float32, the error of the residual stream that the layer writes to, in units of its output;
            None: it writes to none, or the error was not captured.
        tokens: how many real tokens an expert received, to which everything here is limited; None: not an expert's.
    """

    inputs: Tensor = field(repr=False)
    input_norm: Tensor = field(repr=False)
    text: TextProducts | None = field(default=None, repr=False)
    held_out: TextProducts | None = field(default=None, repr=False)
    dense_inputs: Tensor | None = field(default=None, repr=False)
    stream_error: Tensor | None = field(default=None, repr=False)
    tokens: int | None = None

    @property
    def too_few_tokens(self) -> bool:
        """Return whether the layer is an expert's that received fewer than `MIN_TOKENS`."""
        return self.tokens is not None and self.tokens < MIN_TOKENS

    def target_outputs(self, weight: Tensor) -> Tensor:
        """Return the outputs for `inputs` that changed weights approximate, (D, L) float32; `weight`: (D, N), dense."""
        outputs = full_product(weight, self.inputs if self.dense_inputs is None else self.dense_inputs)
        return outputs if self.stream_error is None else outputs + self.stream_error


@dataclass(frozen=True, eq=False)
class DenseBatch:
    """The inputs of layers in the dense model in one batch.

    Attributes:
        inputs: by layer.
        stream: (batch, length, hidden), the residual stream that a single layer writes to; None: it writes to none.
    """

    inputs: Mapping[str, BatchInput]
    stream: Tensor | None
