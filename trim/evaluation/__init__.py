"""What a model still can do: perplexity, zero-shot tasks, continued prompts."""
