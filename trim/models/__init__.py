"""Model files: find, describe, read and load them, whole or block by block."""
