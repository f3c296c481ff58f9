"""Server-wide state: access, memory, bounded caches."""
