"""Whole models in processes of their own: killed at any moment, and in less memory than the model takes."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trim
from tests import forks
from tests.trim import rough

# Prune in a process of its own, which says what it has done.
WORKER = """
import sys, trim
from tests.trim import rough
def say(event):
    print(type(event).__name__, flush=True)
what, model, out = sys.argv[1:]
if what == "prune":
    options = {"target": 0.5, "device": "cpu", "budget": "owl"}
    trim.prune(model, out, tokens=rough.random_tokens(), progress=say, listener=say, **options)
else:
    trim.resume(out, progress=say, listener=say)
"""


def in_a_process(what: str, model: Path, out: Path, stop_after: int | None = None, seconds: float = 0):
    """Prune or resume; the status and the number of events of a process that is killed so long after that event."""
    process = forks.Popen([sys.executable, "-c", WORKER, what, str(model), str(out)], stdout=subprocess.PIPE)
    events = 0
    with process.stdout as lines:
        for events, _ in enumerate(lines, 1):
            if events == stop_after:
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
    return process.wait(), events


def test_killed_at_random_moments_and_resumed_is_bitwise_the_same(llama, tmp_path):
    chance = random.Random(4)
    status, events = in_a_process("prune", llama, tmp_path / "whole")
    assert status == 0
    kills, what = 0, "prune"
    while True:
        moment = (chance.randrange(3, events), chance.random() * 0.01) if kills < 3 else ()
        status, _ = in_a_process(what, llama, tmp_path / "killed", *moment)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        kills, what = kills + 1, "resume"
    assert kills
    rough.assert_same_blocks(tmp_path / "whole", tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed").glob(".*")] == [".lock"]
    for name in ("whole", "killed"):
        trim.export(tmp_path / name, tmp_path / f"{name} out")
    one, other = (
        (tmp_path / f"{name} out" / "model.safetensors").read_bytes() for name in ("whole", "killed")
    )
    assert one == other


LIMITED = """
import os, resource, sys, torch, trim
from tests.trim import rough
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # a thread that is started later takes its stack of the limit
tokens = rough.random_tokens(4, 8)
def used():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
# What a first product and an import take once, they take before the limit.
options = {"tokens": tokens, "target": 0.5, "device": "cpu"}
trim.prune(sys.argv[1], sys.argv[3], layers=["0.*k_proj"], **options)
limit = used() + int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    torch.zeros(int(sys.argv[5]), dtype=torch.uint8)
except RuntimeError:
    print("the whole model does not fit")
run = trim.prune(sys.argv[2], sys.argv[3] + "2", layers=["?.*", "39.*"], **options)
print(run.metrics["sparsity"]["realised"])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's data limit")
def test_a_model_larger_than_memory(tmp_path):
    """More than 150 MB in 40 blocks, of which the process may hold less than half; eleven are pruned."""
    small = rough.make_model("llama", tmp_path / "small")
    large = rough.make_model(
        "llama", tmp_path / "large", hidden_size=256, intermediate_size=1024, num_hidden_layers=40
    )
    size = (large / "model.safetensors").stat().st_size
    assert size > 150e6
    arguments = map(str, (small, large, tmp_path / "run", size // 2, size))
    process = forks.Popen([sys.executable, "-c", LIMITED, *arguments], stdout=subprocess.PIPE)
    with process.stdout as printed:
        assert printed.read().splitlines() == ["the whole model does not fit", "0.5"]
    assert process.wait() == 0
