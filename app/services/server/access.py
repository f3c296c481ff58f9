"""Seminar mode: many readers, one presenter. One guard decides who may compute and change things.

Pages hide what a reader cannot use, but that is politeness: every service that computes, writes or opens a path asks
`SEMINAR.require` by itself, so neither a forged message of a browser nor an address can reach it.
"""

import hashlib
import hmac
import math
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trim.errors import TrimError

ON, CODE, MODELS = "TRIM_SEMINAR", "TRIM_PRESENTER_CODE", "TRIM_SEMINAR_MODELS"
VARIABLES = (ON, CODE, MODELS)
MIN_CODE_CHARACTERS = 8
MAX_CODE_CHARACTERS = 200
FREE_TRIES = 5  # wrong codes in a row, over all sessions, before everybody has to wait
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 10.0, 600.0
FORGET_SECONDS = 3600.0  # after so long without a wrong code the count starts again
MAX_PRESENTERS = 32

# An absolute path of at least two parts, or a Windows one; not the end of an address or of a relative path.
_PATH = re.compile(r"(?<![\w.:/~…-])(?:~?(?:/[^\s/'\"“”,;:()<>]+){2,}/?|[A-Za-z]:\\[^\s'\"“”,;()<>]+)")


class PresenterNeededError(TrimError):
    """Only the presenter of the seminar may do this; the message says what to do instead."""


class Seminar:
    """A seminar: its presenter, and what readers may do. Outside of a seminar everybody may do everything.

    Attributes:
        models: the only models that may be loaded or pruned in a seminar.
        who: returns the calling session, None outside of a session; the pages set it.
    """

    def __init__(
        self,
        code: str | None = None,
        models: Iterable[str] = ("demo",),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin a seminar whose presenter's code is `code`; None: there is no seminar.

        Raises:
            ValueError: the code is too short.
        """
        if code is not None and not MIN_CODE_CHARACTERS <= len(code.strip()) <= MAX_CODE_CHARACTERS:
            raise ValueError(
                f"The presenter's code must have {MIN_CODE_CHARACTERS} to {MAX_CODE_CHARACTERS} characters."
            )
        self.models = frozenset(models)
        self.who: Callable[[], str | None] = lambda: None
        self._code = None if code is None else _digest(code)
        self._clock = clock
        self._presenters: OrderedDict[str, None] = OrderedDict()
        self._wrong, self._last_wrong = 0, 0.0
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Seminar":
        """Return the seminar that `make seminar` sets up; without TRIM_SEMINAR there is none.

        Raises:
            ValueError: the code is missing or too short.
        """
        if not environment.get(ON):
            return cls()
        models = environment.get(MODELS, "").replace(",", " ").split()
        return cls(environment.get(CODE, ""), {"demo", *models})

    @property
    def on(self) -> bool:
        """Return whether this server holds a seminar."""
        return self._code is not None

    def may(self) -> bool:
        """Return whether the session may compute and change things; in a seminar, code outside a session may not."""
        if not self.on:
            return True
        session = self.who()
        with self._lock:
            if session is None or session not in self._presenters:
                return False
            self._presenters.move_to_end(session)
            return True

    def require(self, what: str, model: object = None) -> None:
        """Raise unless the session is the presenter's or there is no seminar.

        Args:
            what: the action, as the subject of a sentence: "Deleting a run".
            model: the model that the action uses, if any.

        Raises:
            PresenterNeededError: the code is needed, or the model is not one of this seminar's.
        """
        if not self.may():
            raise PresenterNeededError(
                f"{what} needs the presenter's code on this server. Stored runs and their layers are open to everybody."
            )
        if self.on and model is not None and str(model).strip() not in self.models:
            allowed = ", ".join(sorted(self.models))
            raise PresenterNeededError(
                f"{what} is limited to the models of this seminar: {allowed}. Whoever starts the server names others "
                'with: make seminar MODELS="demo NAME"'
            )

    def unlock(self, given: str) -> None:
        """Make the calling session the presenter's.

        Raises:
            PresenterNeededError: the code is wrong, or too many codes were; the message says how long to wait.
        """
        session = self.who()
        with self._lock:
            if (left := self._seconds_to_wait()) > 0:
                raise PresenterNeededError(
                    f"Too many wrong codes were tried on this server. The next try is possible in {math.ceil(left)} s."
                )
            right = self._code is not None and hmac.compare_digest(
                _digest(given[:MAX_CODE_CHARACTERS]), self._code
            )
            if right and session is not None:
                self._wrong = 0
                self._presenters[session] = None
                while len(self._presenters) > MAX_PRESENTERS:
                    self._presenters.popitem(last=False)
                return
            self._wrong, self._last_wrong = self._wrong + 1, self._clock()
            left = self._seconds_to_wait()
        after = f" The next try is possible in {math.ceil(left)} s, from any device." if left > 0 else ""
        raise PresenterNeededError(f"That is not the presenter's code.{after}")

    def lock(self) -> None:
        """Make the calling session a reader's again."""
        with self._lock:
            self._presenters.pop(self.who() or "", None)

    def without_paths(self, text: str) -> str:
        """Shorten the server's paths in a text to their last part, so that readers may see it."""
        if ("/" not in text and "\\" not in text) or self.may():
            return text
        for folder in _folders():
            text = text.replace(folder, "…")
        return _PATH.sub(lambda found: "…/" + re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)

    def _seconds_to_wait(self) -> float:
        since = self._clock() - self._last_wrong
        if since > FORGET_SECONDS:
            self._wrong = 0
        if self._wrong < FREE_TRIES:
            return 0.0
        wait = min(FIRST_WAIT_SECONDS * 2.0 ** (self._wrong - FREE_TRIES), MAX_WAIT_SECONDS)
        return max(0.0, wait - since)


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.strip().encode(errors="replace")).digest()


def _folders() -> list[str]:
    """List folders whose names may hold blanks, which no pattern of a path would match; the longest first."""
    from trim.cache import cache_folder
    from trim.runs.listing import runs_folder

    folders = {str(cache_folder().absolute()), str(runs_folder().absolute()), str(Path.home()), os.getcwd()}
    return sorted((folder for folder in folders if len(folder) > 1), key=len, reverse=True)


SEMINAR = Seminar.from_environment(os.environ)
