"""Statistics of what pruning does to the rows of a layer, and figures apart from them.

The modules next to this file hold numbers and need numpy and scipy only. `diagnostics.figures` turns their
results into Plotly figures and computes nothing. Neither knows where the arrays came from.
"""
