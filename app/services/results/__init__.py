"""Numbers of several runs: comparisons, perplexities, tables, reports."""
