"""Whole-model runs in processes of their own, and what they report."""
