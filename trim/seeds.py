"""Seeds of random numbers."""

from trim.errors import SettingsError

MAX_SEED = 2**31 - 1


def require_seed(seed: int) -> None:
    """Require a seed that every generator takes.

    Raises:
        SettingsError: it is negative or too large.
    """
    if not 0 <= seed <= MAX_SEED:
        raise SettingsError(f"a seed is a whole number from 0 to {MAX_SEED:,}, not {seed}")


def following_seeds(seed: int, count: int) -> list[int]:
    """Return a seed and those that follow it; 0 follows the largest."""
    return [(seed + number) % (MAX_SEED + 1) for number in range(count)]
