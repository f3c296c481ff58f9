"""Time and memory of calibration windows from a text larger than memory should hold: `python -m benchmarks.texts`.

Makes a text file of the given size in a temporary folder (2 GiB by default), draws 128 windows of 1,024 tokens from it
with the demo model's tokenizer, and prints the seconds and how far the process's memory grew.
"""

import resource
import tempfile
import time
from pathlib import Path

import trim
from benchmarks.script import script_parser
from trim.calibration.named_texts import demo_text
from trim.models.checkpoint import load_tokenizer
from trim.models.source import fetch, locate


def main() -> None:
    """Run the benchmark."""
    parser = script_parser(__doc__)
    parser.add_argument("--gibibytes", type=float, default=2.0)
    parser.add_argument("--windows", type=int, default=128)
    parser.add_argument("--length", type=int, default=1024)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(fetch(locate("demo"), print)[0])
    piece = demo_text("calibration").encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.txt"
        with path.open("wb") as file:
            while file.tell() < arguments.gibibytes * 2**30:
                file.write(piece)
        before, began = _peak_bytes(), time.perf_counter()
        windows = trim.load_corpus(path, tokenizer, windows=arguments.windows, length=arguments.length)
        seconds = time.perf_counter() - began
        print(
            f"{path.stat().st_size / 2**30:.2f} GiB of text: {tuple(windows.shape)} in {seconds:.1f} s, memory grew by "
            f"{(_peak_bytes() - before) / 2**20:.0f} MiB to {_peak_bytes() / 2**20:.0f} MiB"
        )


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
