"""SparseGPT and ALPS of one layer, ours against their authors' classes on the same inputs.

    python -m benchmarks.peers MODEL --text valid.txt --sparsegpt FOLDER --alps FOLDER

FOLDER holds a copy of the authors' repository (github.com/IST-DASLab/sparsegpt, github.com/mazumder-lab/ALPS), which
is imported from there; either may be left out. The layers of some blocks are pruned to some sparsities, each from the
dense model's inputs on the text. The goal: masks agree in 99.9% of the entries, and the layer's error is within 1%.
ALPS's class needs a GPU. Prints one JSON line last, with the worst of all layers.
"""

import argparse
import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch
import transformers
from torch import Tensor, nn

import trim
from trim.calibration.inputs import outer_products
from trim.methods.alps import alps
from trim.methods.least_squares import TextProducts
from trim.methods.sparsegpt import sparsegpt


def imported(folder: Path, name: str) -> ModuleType:
    """Import a module of the authors' from a folder, which may hold others that it imports."""
    if not hasattr(transformers, "Conv1D"):  # was there when the peers were written
        transformers.Conv1D = transformers.pytorch_utils.Conv1D
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def of_sparsegpt(folder: Path, layer: nn.Linear, inputs: list[Tensor], sparsity: float) -> Tensor:
    """Return the weight that SparseGPT's class makes of a layer."""
    theirs = imported(folder, "sparsegpt").SparseGPT(layer)
    for batch in inputs:
        theirs.add_batch(batch, batch)
    on_cpu = (
        mock.patch.object(torch.cuda, "synchronize") if not layer.weight.is_cuda else contextlib.nullcontext()
    )
    with contextlib.redirect_stdout(io.StringIO()), on_cpu:
        theirs.fasterprune(sparsity)
    return layer.weight.data


def of_alps(folder: Path, layer: nn.Linear, inputs: list[Tensor], sparsity: float) -> Tensor:
    """Return the weight that ALPS's class makes of a layer."""
    theirs = imported(folder, "alps").ALPS_prune(layer, len(inputs), inputs[0].shape[1])
    for batch in inputs:
        theirs.add_batch(batch, batch)
    theirs.ALPS_admm(sparsity)
    return layer.weight.data


PEERS: dict[str, tuple[Callable, Callable]] = {
    "sparsegpt": (of_sparsegpt, sparsegpt),
    "alps": (of_alps, alps),
}


@contextlib.contextmanager
def kept_inputs(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """Yield what a layer receives while the text goes through."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].detach()))
    try:
        yield seen
    finally:
        hook.remove()


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--sparsegpt", type=Path, metavar="FOLDER")
    parser.add_argument("--alps", type=Path, metavar="FOLDER")
    parser.add_argument("--blocks", type=int, nargs="+", default=[0, 10, 20])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.7, 0.8])
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--device", default="cuda")
    chosen = parser.parse_args()
    model = trim.load_model(chosen.model, device=chosen.device, dtype="float32")
    windows = trim.load_corpus(
        chosen.text, model.tokenizer, windows=chosen.windows, length=chosen.length, seed=0
    )
    worst: dict[str, dict[str, float]] = {}
    names = [name for name in model.layers if int(name.partition(".")[0]) in chosen.blocks]
    for name in names:
        dense = model.layers[name]
        with torch.inference_mode(), kept_inputs(dense) as inputs:
            for part in windows.split(8):
                model.module(part.to(model.device), use_cache=False)
        gram = torch.zeros(dense.in_features, dense.in_features, device=model.device)
        for batch in inputs:
            gram += outer_products(batch.flatten(0, 1), batch.flatten(0, 1))
        weight, text = dense.weight.detach().float(), TextProducts(gram, gram)
        for peer, (theirs, ours) in PEERS.items():
            if (folder := getattr(chosen, peer)) is None:
                continue
            for sparsity in chosen.sparsities:
                copy = nn.Linear(dense.in_features, dense.out_features, bias=False, device=model.device)
                copy.weight.data = weight.clone()
                expected = theirs(folder, copy, inputs, sparsity)
                with torch.inference_mode():
                    found = ours(weight, text, round(sparsity * weight.numel()))
                    agree = float((found.keep == (expected != 0)).double().mean())
                    error, reference = (
                        float(((weight - each) @ gram * (weight - each)).double().sum())
                        for each in (found.weight, expected)
                    )
                print(
                    f"{name} {peer} {sparsity:g}: masks {agree:.5f}, error {error / reference:.5f}",
                    flush=True,
                )
                seen = worst.setdefault(peer, {"masks_agree": 1.0, "error_least": 1.0, "error_most": 1.0})
                seen["masks_agree"] = min(seen["masks_agree"], agree)
                seen["error_least"] = min(seen["error_least"], error / reference)
                seen["error_most"] = max(seen["error_most"], error / reference)
    device = torch.cuda.get_device_name() if chosen.device == "cuda" else chosen.device
    print(json.dumps({"benchmark": "peers", "layers": len(names), "device": device, **worst}))


if __name__ == "__main__":
    main()
