"""The papers' formulas: arrays or tensors in, arrays or tensors out."""
