"""Describe everything besides the settings that changes a run's result: text, device and versions of libraries."""

import platform

import numpy as np
import torch
import transformers
from torch import Tensor

from trim.cache import text_sha256
from trim.devices import dtype_name
from trim.runs.run_record import Compute, TextFacts


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries whose arithmetic a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def text_facts(
    tokens: Tensor, mask: Tensor | None = None, *, given: bool = False, bos_token: int | None = None
) -> TextFacts:
    """Describe a calibration text.

    Args:
        tokens: (windows, length) int64.
        mask: (windows, length) bool, False where tokens are padding.
        given: whether the user gave the text as tokens instead of the name of a corpus.
        bos_token: the model's beginning-of-text token, if it has one.
    """
    return TextFacts(
        tokens.numel() if mask is None else int(mask.sum()),
        text_sha256(tokens, mask),
        given,
        bos_token is not None and bool((tokens[:, 0] == bos_token).all()),
    )


def compute_facts(
    device: torch.device, dtype: torch.dtype, batch: int | None = None, threads: int | None = None
) -> Compute:
    """Describe the hardware and the arithmetic that compute a run."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return Compute(device.type, name, dtype_name(dtype), batch, threads)
