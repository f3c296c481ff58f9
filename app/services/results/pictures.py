"""Figures as PDF, SVG and PNG, drawn by a browser on the server, one at a time in the order of the requests."""

import re
import time
from collections.abc import Mapping
from typing import Literal

import plotly.graph_objects as go

from app.services.server.lane import Lane
from trim.errors import TrimError
from trim.progress import Progress

PictureFormat = Literal["pdf", "svg", "png"]
DOTS_PER_INCH = 300
MAX_WAITING = 40  # a seminar; more pictures requested at once are refused
MAX_WAIT_SECONDS = 300
MAX_DRAWING_SECONDS = 60
NO_BROWSER = (
    "PDF, SVG and PNG are drawn by a Chrome or Chromium, and none is installed where the app runs. Install one (on "
    "Debian and Ubuntu: apt install chromium) or run kaleido_get_chrome in the app's environment, then open this again."
)
_PIXELS_PER_INCH = 96


class PictureError(TrimError):
    """A figure cannot be drawn as a picture."""


def browser_path() -> str | None:
    """Return the path of the browser that draws pictures; None: there is none."""
    from choreographer.browsers.chromium import Chromium  # takes time to import

    path = Chromium.find_browser(skip_local=False)
    return None if path is None else str(path)


class _Ticket:
    """A request that waits for its picture."""

    cancelled = False

    def __init__(self) -> None:
        self._until = time.monotonic() + MAX_WAIT_SECONDS

    def report(self, progress: Progress) -> None:
        """Raise an error after MAX_WAIT_SECONDS."""
        if time.monotonic() > self._until:
            raise PictureError("Too many pictures are being made on this server. Ask again in a few minutes.")


class Pictures:
    """Draws figures, one browser at a time; each is closed with its picture."""

    def __init__(self) -> None:
        """Begin with an empty queue."""
        self._lane = Lane(to_the_end=True)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Return the number of pictures that are being made or wait."""
        return self._waiting

    def draw(self, figure: go.Figure, kind: PictureFormat) -> bytes:
        """Wait for the turn and draw a figure in its own size, 96 pixels an inch.

        Raises:
            PictureError: no browser, too many waiting, or the browser failed.
        """
        if self._waiting >= MAX_WAITING:
            raise PictureError("Too many pictures are being made on this server. Ask again in a few minutes.")
        self._waiting += 1
        try:
            with self._lane.turn(_Ticket()):
                return self._drawn(figure, kind)
        finally:
            self._waiting -= 1

    def _drawn(self, figure: go.Figure, kind: PictureFormat) -> bytes:
        path = browser_path()
        if path is None:
            raise PictureError(NO_BROWSER)
        import kaleido

        page = kaleido.PageGenerator(mathjax=False)
        # The page's title becomes the PDF's.
        title = " ".join(re.sub(r"<[^>]*>", " ", figure.layout.title.text or "TRIM Lab").split())
        page.header = page.header.replace("Kaleido-fier", title)
        scale = DOTS_PER_INCH / _PIXELS_PER_INCH if kind == "png" else 1
        layout = figure.layout
        options: Mapping[str, object] = {
            "format": kind,
            "width": layout.width,
            "height": layout.height,
            "scale": scale,
        }
        try:
            content = kaleido.calc_fig_sync(
                figure.to_plotly_json(),
                opts=options,
                # Nothing is fetched: the page is the package's own plotly.js, without MathJax.
                kopts={"path": path, "page_generator": page, "timeout": MAX_DRAWING_SECONDS},
            )
        except Exception as error:
            raise PictureError(
                f"The browser at {path} could not draw the picture ({type(error).__name__}). Save code and data "
                "instead, which need none, or install another Chrome or Chromium."
            ) from error
        return bytes(content)


PICTURES = Pictures()
