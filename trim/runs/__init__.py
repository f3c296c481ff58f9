"""The run folder: its settings, its records of layers, and the files that hold them."""
