"""Sweeps: grids of runs of one model, and their results."""
