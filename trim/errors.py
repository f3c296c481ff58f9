"""Errors that a user can act on: each message names the problem and a remedy."""


class TrimError(Exception):
    """Base of every error that TRIM Lab raises on purpose."""


class SettingsError(TrimError, ValueError):
    """A setting is invalid, or contradicts another one."""


class SparsityError(SettingsError):
    """A target sparsity that the rows of the layer cannot reach."""


class NonFiniteError(TrimError, ValueError):
    """A weight, an activation or a score is NaN or infinite."""


class ShapeError(TrimError, ValueError):
    """The shapes of arrays do not match."""


class ModelError(TrimError):
    """A model cannot be found, read or understood."""


class LayerNotFoundError(TrimError, KeyError):
    """A layer name or pattern matches nothing in the model."""

    def __str__(self) -> str:  # KeyError would show the message in quotes, with its line breaks escaped
        return str(self.args[0])


class CorpusError(TrimError):
    """A text cannot be found, or is too short for the requested windows."""


class CacheError(TrimError):
    """A file in the cache is damaged, or cannot be written."""


class CacheWarning(UserWarning):
    """A result could not be written to the cache. It is correct, and the next use computes it again."""


class NotEnoughMemoryError(TrimError, MemoryError):
    """The host or the accelerator has too little free memory for the request."""


class RunError(TrimError):
    """A run folder cannot be written, read or resumed."""


class ForeignFolderError(RunError):
    """A folder was written by another program, such as a model's."""


class RunLockedError(RunError):
    """Another process is writing the run folder."""
