"""Training of a pruned model after pruning: its zeros stay, and it learns the dense model's predictions."""
