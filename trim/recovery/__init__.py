"""Training of a pruned model after pruning: its zeros stay, and it learns what the dense model predicts."""
