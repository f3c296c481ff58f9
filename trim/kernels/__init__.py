"""Triton kernels: the parts of the method and of a transformer block that torch alone computes too slowly on a GPU."""
