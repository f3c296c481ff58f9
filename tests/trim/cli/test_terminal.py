"""Lines that a run prints."""

import pytest

from trim.cli.terminal import RunTerminal
from trim.pruning.events import Began, BlockDone, LayerPruned


def layer(block: int, gain: float, rate: float | None) -> LayerPruned:
    return LayerPruned(f"{block}.mlp.up_proj", block, 0.7, 0.5, 0.5 + gain, rate, 2, 0.1)


@pytest.mark.parametrize(
    ("place", "words"), [("gpu", "on the GPU"), ("ram", "in memory"), ("disk", "on the disk")]
)
def test_a_run_says_where_its_activations_are(place, words, capsys):
    RunTerminal()(Began(1, 7, 0, 1024, 1, place))
    assert (
        capsys.readouterr().out
        == f"7 layers in 1 block; 1,024 tokens, 1 window at once, activations {words}\n"
    )


def test_a_block_that_is_written_late_has_its_own_layers(capsys):
    terminal = RunTerminal()
    for event in (layer(0, 0.25, 0.01), layer(0, 0.75, None), layer(1, 0.125, -0.02)):
        terminal(event)
    for block in range(2):
        terminal(BlockDone(block, 2, 9, 1.5))
    one, other = capsys.readouterr().out.splitlines()
    assert one.strip() == "block   1 of 2     1.5 s  quality against uniform +0.5000  rates +0"
    assert other.strip() == "block   2 of 2     1.5 s  quality against uniform +0.1250  rates -"


def test_the_rates_of_hundreds_of_experts_are_counted(capsys):
    terminal = RunTerminal()
    for rate in [0.01] * 380 + [-0.02] * 3:
        terminal(layer(0, 0.25, rate))
    terminal(BlockDone(0, 1, 9, 1.5))
    assert capsys.readouterr().out.strip().endswith("rates 380 +, 3 -")
