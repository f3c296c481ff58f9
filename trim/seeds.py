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
