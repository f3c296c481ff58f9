"""Reductions of an array (D,) float64 for compiled functions, in vector registers."""

import numpy as np

from trim.compiled.compiler import inlined

_MAGNITUDE_BITS = np.int64(2**63 - 1)  # of a float64: all but its sign


@inlined
def sum_of(values):
    """Return the sum."""
    result = 0.0
    for i in range(len(values)):
        result += values[i]
    return result


@inlined
def range_of(values):
    """Return the least and the largest; none may be NaN."""
    # Compared as integers, several at once: floats sort like their bits, if those of negative ones are inverted.
    bits = values.view(np.int64)
    keys = np.array([_MAGNITUDE_BITS, ~_MAGNITUDE_BITS])
    least, most = keys
    for i in range(len(bits)):
        key = bits[i] ^ (bits[i] >> 63 & _MAGNITUDE_BITS)
        least, most = min(least, key), max(most, key)
    keys[0], keys[1] = least, most
    return (keys ^ (keys >> 63 & _MAGNITUDE_BITS)).view(np.float64)


@inlined
def variance_of(values):
    """Return the variance; 0 of no values."""
    mean, result = sum_of(values) / max(len(values), 1), 0.0
    for i in range(len(values)):
        result += (values[i] - mean) * (values[i] - mean)
    return result / max(len(values), 1)
