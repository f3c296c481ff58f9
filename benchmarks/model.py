"""A whole model: seconds per block and tokens per second, against the bare cost of the two forward passes.

    python -m benchmarks.model                      the demo model's first blocks
    python -m benchmarks.model --model FOLDER --blocks 32 --windows 128 --length 2048
    python -m benchmarks.model --shape llama-2-7b --blocks 32 --windows 128 --length 2048    random weights, float16
    python -m benchmarks.model --shape qwen3-30b-a3b --blocks 4 --windows 128 --length 2048    128 experts in a block

The lower bound: every token goes through every block twice, once dense to capture inputs and once pruned to pass on.
The peer does only this: the same windows in the same batches through the same blocks, twice, with the weights in
memory. Sorting, curves, search, reading weights and writing the run come on top. The run begins with an empty cache,
as the first run of a model does: `--allocation optimal --budget optimal` measures its sensitivities and prices.
On a GPU the same blocks are pruned once before, which compiles the kernels, as the first run on a machine does.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
import transformers
from safetensors.torch import save_file

import trim
from benchmarks.script import print_report, script_parser
from trim.calibration.calibration import Calibration
from trim.calibration.text_pass import default_batch
from trim.devices import choose_device
from trim.models import streamed as streaming
from trim.models.experts import experts_width
from trim.models.loaded import fetch_model
from trim.models.replay import record_calls
from trim.models.streamed import StreamedModel
from trim.progress import Progress
from trim.pruning.events import BlockDone, Fact


def synchronise(device: torch.device) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def as_they_are() -> Iterator[None]:
    """Remove our kernels from the blocks inside the `with` block."""
    fused, streaming.fused = streaming.fused, lambda block, device: contextlib.nullcontext()
    try:
        yield
    finally:
        streaming.fused = fused


@torch.inference_mode()
def bare_seconds(model: StreamedModel, windows: torch.Tensor, blocks: int, batch: int) -> list[float]:
    """Time two forward passes of all windows through each of the first blocks, after one warm-up batch.

    Through the blocks of `transformers` as they are.
    """
    parts = [windows[start : start + batch].to(model.device) for start in range(0, len(windows), batch)]
    with model.embedding() as module:
        embedded = [record_calls(module, model.blocks, part, None) for part in parts]
    states, calls = [list(column) for column in zip(*embedded, strict=True)]
    seconds = []
    for index in range(blocks):
        with as_they_are(), model.block(index) as block:
            calls[0][index].replay(block, states[0])
            synchronise(model.device)
            begin = time.perf_counter()
            for _ in range(2):
                outputs = [call[index].replay(block, part) for call, part in zip(calls, states, strict=True)]
            synchronise(model.device)
            seconds.append(time.perf_counter() - begin)
        states = outputs
    return seconds


SHAPES = {
    "llama-2-7b": transformers.LlamaConfig(hidden_size=4096, intermediate_size=11008, num_attention_heads=32),
    "qwen3-30b-a3b": transformers.Qwen3MoeConfig(
        hidden_size=2048, num_attention_heads=32, num_key_value_heads=4, head_dim=128, num_experts=128,
        num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True,
    ),
    "deepseek-v3": transformers.DeepseekV3Config(first_k_dense_replace=0),  # every block with its 256 experts: 23 GB
}  # fmt: skip


def random_model(folder: Path, shape: str, blocks: int) -> None:
    """Write a model of a known shape with random weights, float16, one file per block."""
    torch.manual_seed(0)
    config = SHAPES[shape]
    config.num_hidden_layers, config.vocab_size, config.dtype = blocks, 32000, torch.float16
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    files: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        matrix = tensor.ndim > 1
        values = torch.randn(tensor.shape, device=device).mul_(0.02) if matrix else torch.ones(tensor.shape)
        part = name.split(".")[2] if name.startswith("model.layers.") else "outside"
        files.setdefault(f"model-{part}.safetensors", {})[name] = values.half().cpu()
    folder.mkdir()
    for file, tensors in files.items():
        save_file(tensors, folder / file, metadata={"format": "pt"})
    places = {name: file for file, tensors in files.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config.save_pretrained(folder)
    os.sync()  # else the writing of the model would be timed with the runs


def main() -> None:
    """Run the benchmark."""
    parser = script_parser(__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), help="random weights of this shape instead of a model"
    )
    parser.add_argument(
        "--blocks", type=int, default=4, help="how many are pruned, or a model of random weights has"
    )
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--sensitivity-windows", type=int, default=32)
    parser.add_argument("--target", type=float, default=0.7)
    parser.add_argument("--device")
    parser.add_argument("--allocation", default="trim")
    parser.add_argument("--budget", default="uniform")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if arguments.shape:
            arguments.model = str(Path(made) / arguments.shape)
            random_model(Path(arguments.model), arguments.shape, arguments.blocks)
        measure(arguments)


def prune(
    arguments: argparse.Namespace,
    folder: Path,
    windows: torch.Tensor,
    out: Path,
    blocks: int,
    progress: Callable[[Progress], None] | None = None,
    listener: Callable[[Fact], None] | None = None,
) -> trim.Run:
    """Prune the first blocks."""
    return trim.prune(
        folder,
        out / "run",
        tokens=windows,
        target=arguments.target,
        allocation=arguments.allocation,
        budget=arguments.budget,
        sensitivity_windows=arguments.sensitivity_windows,
        layers=[f"{index}.*" for index in range(blocks)],
        device=arguments.device,
        progress=progress,
        listener=listener,
    )


def stage_of(what: str) -> str:
    """Return the name of a step without its block or layer."""
    if what.startswith("Pruning "):
        return "pruning its layers"
    return re.sub(r"^Block \d+: | for .*|[,:] block \d+$", "", what)


def measure(arguments: argparse.Namespace) -> None:
    """Prune a model, time it against bare forward passes, and report."""
    folder = fetch_model(arguments.model).folder
    model = StreamedModel(folder, device=choose_device(arguments.device))
    vocabulary = model.module.config.get_text_config().vocab_size
    shape = (arguments.windows, arguments.length)
    windows = torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))
    blocks = min(arguments.blocks, len(model.blocks))
    width = experts_width(model.blocks)
    batch = default_batch(Calibration.of(windows), model.device, experts_width=width)
    bare = bare_seconds(model, windows, blocks, batch)

    stages: dict[str, float] = {}
    began: list[float] = []  # the first block
    ended: list[float] = []  # each block
    last = ["", time.perf_counter()]

    def watch(step: Progress) -> None:
        now = time.perf_counter()
        stages[last[0]] = stages.get(last[0], 0.0) + now - last[1]
        if not began and step.what.startswith("Block 0:"):
            began.append(now)
        last[:] = stage_of(step.what), now

    def listen(fact: Fact) -> None:
        if isinstance(fact, BlockDone) and fact.block < blocks:
            ended.append(time.perf_counter())
            if len(ended) == blocks:
                watch(Progress(""))  # the run's totals belong to no stage

    if model.device.type == "cuda":
        with tempfile.TemporaryDirectory() as out:  # kernels are compiled once on a machine
            prune(arguments, folder, windows, Path(out), blocks)
        torch.cuda.reset_peak_memory_stats(model.device)
    with (
        tempfile.TemporaryDirectory() as out,
        mock.patch.dict(os.environ, TRIM_CACHE=f"{out}/cache"),
    ):
        begin = time.perf_counter()
        run = prune(arguments, folder, windows, Path(out), blocks, watch, listen)
        seconds = time.perf_counter() - begin
        realised = run.metrics["sparsity"]["realised"]
        if abs(realised - arguments.target) > 1e-6:
            raise SystemExit(f"the model sparsity is {realised}, not {arguments.target}")
    tokens = windows.numel()
    intervals = [after - before for before, after in itertools.pairwise((began[0], *ended))]
    for index, (ours, theirs) in enumerate(zip(intervals, bare, strict=True)):
        print(f"block {index:>3}  {ours:7.3f} s  two bare passes {theirs:7.3f} s  {ours / theirs:5.2f} x")
    report = {
        "model": arguments.model,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "blocks": blocks,
        "tokens": tokens,
        "batch": batch,
        "seconds_per_block": (ended[-1] - began[0]) / blocks,  # one is written while the next is pruned
        "tokens_per_second_and_block": tokens * blocks / (ended[-1] - began[0]),
        "bare_seconds_per_block": sum(bare) / blocks,
        "seconds": seconds,
        "bare_seconds": sum(bare),
        "over_bare": seconds / sum(bare),
        "blocks_over_bare": (ended[-1] - began[0]) / sum(bare),
        "stage_seconds": {stage: seconds for stage, seconds in stages.items() if stage},
        "model_sparsity": realised,
    }
    if model.device.type == "cuda":
        report["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(model.device)
    print_report("model", **report)


if __name__ == "__main__":
    main()
