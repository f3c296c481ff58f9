"""Seeds that every generator takes."""

import pytest

import trim
from trim.seeds import MAX_SEED, following_seeds, require_seed


def test_seeds_that_follow_the_largest_are_seeds_too():
    seeds = following_seeds(MAX_SEED - 1, 4)
    assert seeds == [MAX_SEED - 1, MAX_SEED, 0, 1]
    for seed in seeds:
        require_seed(seed)
    with pytest.raises(trim.SettingsError, match="not -1"):
        require_seed(-1)
