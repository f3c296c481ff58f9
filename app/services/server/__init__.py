"""What all sessions of one server share: who may compute, memory, bounded caches."""
