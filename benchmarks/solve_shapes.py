"""Seconds and peak memory of solving layers of the shapes of Llama-2-7B on random inputs.

    python -m benchmarks.solve_shapes

Prints one JSON line last; `block_seconds` is of the seven layers of a block, `model_seconds` of all 32 blocks. Each
shape is solved twice, the second time counts. Peaks, the text's products included, are in squares of the largest width,
float32. The text is random, so that the search may take more or fewer steps than on a model's inputs. The limit to
measure against is the time of the products alone, at the number of steps that is printed.
"""

import time

import torch

from benchmarks.script import print_report, script_parser
from trim.methods.least_squares import TextProducts
from trim.methods.solve import solve

SHAPES = {(4096, 4096): 4, (11008, 4096): 2, (4096, 11008): 1}  # with the number of layers in a block
WIDTH = 11008


def text_of(columns: int, tokens: int = 16384) -> TextProducts:
    """Return the products of inputs with correlated features."""
    generator = torch.Generator("cuda").manual_seed(0)
    mixed = torch.randn(columns, columns, generator=generator, device="cuda") / columns**0.5
    size = torch.rand(columns, generator=generator, device="cuda").add_(0.1)
    inputs = torch.randn(tokens, columns, generator=generator, device="cuda").mul_(size)
    inputs = inputs + 0.5 * (inputs @ mixed)
    pruned = inputs + 0.1 * torch.randn(tokens, columns, generator=generator, device="cuda")
    return TextProducts(pruned.T @ pruned, inputs.T @ pruned)


def main() -> None:
    """Measure each shape."""
    parser = script_parser(__doc__)
    parser.add_argument("--sparsity", type=float, default=0.7)
    chosen = parser.parse_args()
    report: dict[str, object] = {"device": torch.cuda.get_device_name()}
    block = 0.0
    for (rows, columns), count in SHAPES.items():
        text = text_of(columns)
        weight = torch.randn(rows, columns, device="cuda") * 0.02
        sensitivity = torch.rand(rows, device="cuda")
        for _ in range(2):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            other = torch.cuda.memory_allocated() - 2 * 4 * columns**2
            begin = time.perf_counter()
            with torch.inference_mode():
                solution = solve(
                    weight, text, round(chosen.sparsity * weight.numel()), sensitivity=sensitivity
                )
            torch.cuda.synchronize()
            seconds = time.perf_counter() - begin
        report[f"{rows}x{columns}"] = {
            "seconds": round(seconds, 3),
            "steps": solution.steps,
            "diverged": solution.diverged,
            "peak_squares": round((torch.cuda.max_memory_allocated() - other) / (4 * WIDTH**2), 2),
        }
        block += count * seconds
        print(rows, columns, report[f"{rows}x{columns}"], flush=True)
        del text, weight, solution
    print_report("solve_shapes", **report, block_seconds=round(block, 2), model_seconds=round(32 * block, 1))


if __name__ == "__main__":
    main()
