"""One live layer: the model in memory, its studies, and what is kept of them."""
