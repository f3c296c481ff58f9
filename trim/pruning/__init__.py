"""Pruning a whole model: plan the budgets, prune block after block, export the result."""
