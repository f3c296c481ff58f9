"""The method's loops on the CPU: over NumPy arrays, compiled by numba, on all cores, without torch."""

EPSILON = 1e-8  # added to each norm in the authors' code
NOISE_FLOOR = 1e-10  # z: keeps the noise power of a perfect row from being zero
