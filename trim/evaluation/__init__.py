"""Evaluation of a model: perplexity, zero-shot tasks, continued prompts."""
