"""The server of the Layer page with one wide random layer: the waiting time without browser and network.

    python -m benchmarks.page_server --device cuda

The layer is `down_proj` of the Llama-3-8B shape, 4096 × 14336, float16, on 64 windows of 256 tokens. Another score
recomputes everything but the capture: order, curves, search and four charts. Another target searches those curves and
draws the charts: as in a browser only the fragment with the controls runs, and once more the whole script. The bounds:
the sweep over the columns, then the figures of a layer of 4,096 rows.
"""

import contextlib
import functools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from streamlit.testing.v1 import local_script_runner

from benchmarks.script import print_report, script_parser
from tests.app.page import LayerPage
from tests.trim import tiny

LAYER = "mlp.down_proj"
ROWS, COLUMNS = 4096, 14336


def random_model(folder: Path) -> Path:
    """Write a model of one block of the shape, with the tokenizer of the tests."""
    tokenizer = tiny.tokenizer()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=ROWS, intermediate_size=COLUMNS, num_attention_heads=32, num_key_value_heads=8,
        num_hidden_layers=1, vocab_size=len(tokenizer), dtype="float16",
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def time_change(change: object) -> float:
    """Time one call."""
    begin = time.perf_counter()
    change()
    return time.perf_counter() - begin


@contextlib.contextmanager
def only_the_controls(page: LayerPage) -> Iterator[None]:
    """Run only the fragment with the controls inside the `with` block, as a browser does when one of them changes."""
    whole, fragments = local_script_runner.RerunData, page.test._fragment_storage.resolve_target("controls")
    local_script_runner.RerunData = functools.partial(whole, fragment_id_queue=fragments)
    try:
        yield
    finally:
        local_script_runner.RerunData = whole


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--device", help="as the page names it, such as cuda:0; default: what it chooses")
    parser.add_argument("--releases", type=int, default=10, help="of the target slider")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        os.environ["TRIM_CACHE"] = str(Path(made) / "cache")
        letters = random.Random(0)
        text = Path(made) / "words.txt"
        text.write_text(" ".join("".join(letters.choices("abcdefgh", k=5)) for _ in range(40_000)))
        model = random_model(Path(made) / "model")
        address = {"model": str(model), "text": str(text), "windows": "64", "length": "256", "layer": LAYER}
        page = LayerPage(**address)
        if arguments.device:
            page.set("selectbox", "device", arguments.device)
        scores = [
            time_change(lambda score=score: page.set("segmented_control", "score", score))
            for score in ("magnitude", "wanda")
        ]
        targets = random.Random(1).sample(
            [target for target in range(30, 95) if target != 70], 2 * arguments.releases
        )

        def release(target: int) -> float:
            return time_change(lambda: page.set("slider", "target", target))

        whole = [release(target) for target in targets[: arguments.releases]]
        device = next(each for each in page.texts if "computed on" in each)
        with only_the_controls(page):
            fragment = [release(target) for target in targets[arguments.releases :]]
    print_report(
        "page_server",
        device=device,
        other_score_seconds=scores,
        target_median_seconds=statistics.median(fragment),
        target_largest_seconds=max(fragment),
        script_median_seconds=statistics.median(whole),
        script_largest_seconds=max(whole),
    )


if __name__ == "__main__":
    main()
