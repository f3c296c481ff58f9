"""The method's loops on the CPU: over NumPy arrays, compiled by numba, on all cores, without torch."""
