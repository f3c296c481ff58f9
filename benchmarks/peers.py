"""Our SparseGPT and ALPS of one layer, against their authors' classes on the same inputs.

    python -m benchmarks.peers MODEL --text valid.txt --sparsegpt FOLDER --alps FOLDER --float64

FOLDER holds a copy of the authors' repository (github.com/IST-DASLab/sparsegpt, github.com/mazumder-lab/ALPS), which
is imported from there; either may be left out. The layers of some blocks are pruned to some sparsities, each from the
dense model's inputs on the text. The goal: masks agree in 99.9% of the entries, and the layer's error is within 1%.
With `--float64` both compute once more in float64, which separates rounding from differences of method; the report then
has the agreement of the authors' float32 and float64 masks too. Prints one JSON line last, with all layers' worst.
"""

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
from benchmarks.script import print_report, script_parser
from trim.calibration.products import outer_products
from trim.methods.alps import alps
from trim.methods.least_squares import TextProducts
from trim.methods.sparsegpt import sparsegpt


def import_peer(folder: Path, name: str) -> ModuleType:
    """Import an authors' module from a folder, which may hold modules that it imports."""
    if not hasattr(transformers, "Conv1D"):  # it existed when the peers were written
        transformers.Conv1D = transformers.pytorch_utils.Conv1D
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def of_sparsegpt(folder: Path, layer: nn.Linear, inputs: list[Tensor], sparsity: float) -> Tensor:
    """Return a layer's weight as pruned by SparseGPT's class."""
    theirs = import_peer(folder, "sparsegpt").SparseGPT(layer)
    for batch in inputs:
        theirs.add_batch(batch, batch)
    theirs.fasterprune(sparsity)
    return layer.weight.data


def of_alps(folder: Path, layer: nn.Linear, inputs: list[Tensor], sparsity: float) -> Tensor:
    """Return a layer's weight as pruned by ALPS's class."""
    module = import_peer(folder, "alps")
    module.dev = str(layer.weight.device)
    theirs = module.ALPS_prune(layer, len(inputs), inputs[0].shape[1])
    for batch in inputs:
        theirs.add_batch(batch, batch)
    theirs.ALPS_admm(sparsity)
    return layer.weight.data


PEERS: dict[str, tuple[Callable, Callable]] = {
    "sparsegpt": (of_sparsegpt, sparsegpt),
    "alps": (of_alps, alps),
}


@contextlib.contextmanager
def without_gpu() -> Iterator[None]:
    """Let the authors' classes, which name a GPU, compute on the CPU."""
    move = torch.Tensor.to

    def moved(tensor: Tensor, *arguments: object, **named: object) -> Tensor:
        where = ("cpu" if isinstance(each, str) else each for each in arguments)
        return move(tensor, *where, **named)

    with mock.patch.object(torch.Tensor, "to", moved), mock.patch.object(torch.cuda, "synchronize"):
        yield


@contextlib.contextmanager
def everything_in_float64() -> Iterator[None]:
    """Make code that asks for float32 compute in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def compare(
    theirs: Callable,
    ours: Callable,
    folder: Path,
    dense: nn.Linear,
    inputs: list[Tensor],
    sparsity: float,
    float64: bool,
) -> dict[str, float]:
    """Prune a layer by both; return the agreement of their masks, and the ratio of our error to theirs."""
    errors: dict[str, float] = {}
    masks = []
    for double in (False, True)[: 1 + float64]:
        dtype, name = (torch.float64, "_float64") if double else (torch.float32, "")
        weight, received = dense.weight.detach().to(dtype), [batch.to(dtype) for batch in inputs]
        copy = nn.Linear(dense.in_features, dense.out_features, bias=False)
        copy.weight.data = weight.clone()
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            if double:
                stack.enter_context(everything_in_float64())
            if not weight.is_cuda:
                stack.enter_context(without_gpu())
            expected = theirs(folder, copy, received, sparsity)
            gram = torch.zeros(dense.in_features, dense.in_features, device=weight.device, dtype=dtype)
            with torch.inference_mode():
                for batch in received:
                    gram += outer_products(batch.flatten(0, 1), batch.flatten(0, 1))
                got = ours(weight, TextProducts(gram, gram), round(sparsity * weight.numel()))
        masks.append(expected != 0)
        agree = (got.keep == masks[-1]).double().mean()
        error, reference = (
            ((weight - each) @ gram * (weight - each)).double().sum() for each in (got.weight, expected)
        )
        errors |= {f"masks_agree{name}": float(agree)}
        errors |= dict.fromkeys((f"error_least{name}", f"error_most{name}"), float(error / reference))
    if float64:
        errors["theirs_agree_with_float64"] = float((masks[0] == masks[1]).double().mean())
    return errors


def main() -> None:
    """Run the benchmark."""
    parser = script_parser(__doc__)
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--sparsegpt", type=Path, metavar="FOLDER")
    parser.add_argument("--alps", type=Path, metavar="FOLDER")
    parser.add_argument("--blocks", type=int, nargs="+", default=[0, 10, 20])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.7, 0.8])
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--float64", action="store_true")
    chosen = parser.parse_args()
    model = trim.load_model(chosen.model, device=chosen.device, dtype="float32")
    windows = trim.load_corpus(
        chosen.text, model.tokenizer, windows=chosen.windows, length=chosen.length, seed=0
    )
    worst: dict[str, dict[str, float]] = {}
    names = [name for name in model.layers if int(name.partition(".")[0]) in chosen.blocks]
    for name in names:
        dense = model.layers[name]
        inputs: list[Tensor] = []
        with (
            torch.inference_mode(),
            dense.register_forward_pre_hook(lambda _, given, inputs=inputs: inputs.append(given[0].detach())),
        ):
            for part in windows.split(8):
                model.module(part.to(model.device), use_cache=False)
        for peer, functions in PEERS.items():
            if (folder := getattr(chosen, peer)) is None:
                continue
            seen = worst.setdefault(peer, {})
            for sparsity in chosen.sparsities:
                comparison = compare(*functions, folder, dense, inputs, sparsity, chosen.float64)
                print(f"{name} {peer} {sparsity:g}:", json.dumps(comparison), flush=True)
                for key, value in comparison.items():
                    pick = max if key.startswith("error_most") else min
                    seen[key] = pick(seen.get(key, value), value)
    device = torch.cuda.get_device_name() if chosen.device == "cuda" else chosen.device
    print_report("peers", layers=len(names), device=device, **worst)


if __name__ == "__main__":
    main()
