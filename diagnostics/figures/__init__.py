"""Statistics in, Plotly figures out: a function here lays out a result and computes nothing.

Where a mark is a row, its `customdata` is the row's index; where it is a bar of a histogram, the bin's index
(`Histogram.members` gives its rows). `selected_rows` are drawn in the ink colour in every figure.
"""
