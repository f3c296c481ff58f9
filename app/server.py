"""The app as `make app` and `make seminar` serve it: `python -m streamlit run app/server.py`.

Every request, not only the connection of a page, must name one of `server.allowedHosts`. Of the messages that Streamlit
takes from every page, those that no page of ours sends are dropped; and the folder that this checkout lies in, which
Streamlit sends to every page first, does not leave the server.
"""

from pathlib import Path

import streamlit as st
from google.protobuf.message import DecodeError
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.starlette import App

from app.ui.common.early import import_ahead

_FOLDER = str(Path(__file__).resolve().parent).encode()
_HIDDEN = b"/app".rjust(len(_FOLDER), b"-")  # as long, for messages hold the lengths of their texts
# Messages that pages send: rerun, stop, upload, download, heartbeat. Dropped are messages that empty all caches, read
# the checkout's git, watch files, or that only Streamlit's own tests send.
_TAKEN = {
    "rerun_script",
    "stop_script",
    "file_urls_request",
    "backend_operation_request",
    "app_heartbeat",
}


class Guarded:
    """Passes on the messages of our pages, and removes the app's folder from messages to them."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""
        if scope["type"] == "http":
            import_ahead()
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return

        async def receiving() -> Message:
            while not _taken(message := await receive()):
                pass
            return message

        async def sending(message: Message) -> None:
            content = message.get("bytes")
            if content and _FOLDER in content:
                message = {**message, "bytes": content.replace(_FOLDER, _HIDDEN)}
            await send(message)

        await self._app(scope, receiving, sending)


def _taken(message: Message) -> bool:
    if not message.get("bytes"):
        return True  # the beginning or the end of a connection
    try:
        return BackMsg.FromString(message["bytes"]).WhichOneof("type") in _TAKEN
    except DecodeError:
        return True  # Streamlit ends the connection


app = App(
    "main.py",
    middleware=[
        Middleware(
            TrustedHostMiddleware, allowed_hosts=st.get_option("server.allowedHosts"), www_redirect=False
        ),
        Middleware(Guarded),
    ],
)
