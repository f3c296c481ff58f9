"""The app as `make app` and `make seminar` serve it: `python -m streamlit run app/server.py`.

Every request, not only the connection of a page, must name one of `server.allowedHosts`; and the folder that this
checkout lies in, which Streamlit sends to every page first, does not leave the server.
"""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.starlette import App

_FOLDER = str(Path(__file__).resolve().parent).encode()
_HIDDEN = b"/app".rjust(len(_FOLDER), b"-")  # as long, for messages hold the lengths of their texts


class HiddenFolder:
    """Leaves the app's own folder out of what is sent to pages."""

    def __init__(self, app: ASGIApp) -> None:
        """Take the application inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""

        async def sending(message: Message) -> None:
            content = message.get("bytes")
            if content and _FOLDER in content:
                message = {**message, "bytes": content.replace(_FOLDER, _HIDDEN)}
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "websocket" else send)


app = App(
    "main.py",
    middleware=[
        Middleware(
            TrustedHostMiddleware, allowed_hosts=st.get_option("server.allowedHosts"), www_redirect=False
        ),
        Middleware(HiddenFolder),
    ],
)
