"""One page of the app over a websocket, in Streamlit's protocol like a browser, but without drawing."""

import json
from typing import Self

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.util import calc_hash

from tests.browser.harness import AppServer

PATIENCE_SECONDS = 120


class PageSession:
    """A session of the app, which asks for runs of a page's script and reads the server's messages."""

    def __init__(self, server: AppServer) -> None:
        self._url = server.url.replace("http://", "ws://") + "/_stcore/stream"

    async def __aenter__(self) -> Self:
        self._socket = await websockets.connect(
            self._url, subprotocols=["streamlit"], max_size=None, proxy=None, ping_interval=None
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._socket.close()

    async def ask(self, page: str, query: str, fragment: str = "", **widgets: object) -> None:
        """Ask for a run of a page, or of a fragment of it, with values of widgets by their ids."""
        ask = BackMsg()
        run = ask.rerun_script
        run.query_string, run.page_script_hash, run.fragment_id = query, calc_hash(page), fragment
        for key, value in widgets.items():
            state = run.widget_states.widgets.add(id=key)
            if isinstance(value, bool):
                state.trigger_value = value
            elif isinstance(value, str):
                state.string_value = value
            else:
                state.json_trigger_value = json.dumps(value)
        await self._socket.send(ask.SerializeToString())

    async def receive(self) -> tuple[ForwardMsg, int]:
        """Receive the next message, and its bytes.

        Raises:
            RuntimeError: the page's script failed.
        """
        content = await self._socket.recv()
        message = ForwardMsg.FromString(content)
        element = message.delta.new_element
        if element.WhichOneof("type") == "exception":
            raise RuntimeError(element.exception.message)
        return message, len(content)


def p95(seconds: list[float]) -> float:
    """Return the 95th percentile."""
    return sorted(seconds)[int(0.95 * (len(seconds) - 1))]
