"""The message of a page after an unexpected failure; the log has the rest."""

import logging

from trim.errors import TrimError
from trim.names import one_line

_log = logging.getLogger(__name__)


def explain(error: Exception, unexpected: str = "It is damaged, or was made by something else") -> str:
    """Return an error's message; an unexpected error goes to the log, and the message is `unexpected`."""
    if isinstance(error, TrimError):
        return str(error)
    _log.error("unexpected", exc_info=error)
    return f"{unexpected} ({type(error).__name__}: {one_line(str(error))})."
