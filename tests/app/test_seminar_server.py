"""`make seminar` as it runs: who is answered, and what a message that no page of ours sends can do."""

import asyncio
import contextlib
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import websockets
from starlette.types import Receive, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.util import calc_hash

from app.server import Guarded
from tests.app.small_runs import make_run
from tests.browser.harness import running_app

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A seminar on a free port, and its folder of runs."""
    folder = tmp_path_factory.mktemp("seminar")
    make_run(folder / "runs/mine", name="Mine")
    make_run(folder / "runs/half", blocks=1)
    with running_app(folder, seminar=True) as server:
        yield int(server.url.rpartition(":")[2]), folder


def ask(port: int, messages: list[BackMsg], **headers: str) -> list[ForwardMsg]:
    """Return what the server answers to these messages of one session, up to the end of the last run of the page."""

    async def talk() -> list[ForwardMsg]:
        answers = []
        url = f"ws://127.0.0.1:{port}/_stcore/stream"
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            websockets.connect(
                url, subprotocols=["streamlit"], max_size=None, proxy=None, additional_headers=headers
            ) as socket,
        ):
            for message in messages:
                await socket.send(message.SerializeToString())
                while not answers or answers[-1].WhichOneof("type") != "script_finished":
                    answers.append(ForwardMsg.FromString(await socket.recv()))
                answers.append(ForwardMsg())
        return answers

    return asyncio.run(talk())


def page(name: str, query: str = "") -> BackMsg:
    message = BackMsg()
    message.rerun_script.query_string = query
    message.rerun_script.page_script_hash = calc_hash(name)
    return message


def test_readers_are_answered_and_strangers_are_not(server):
    port, _ = server
    text = str(ask(port, [page("model", "run=mine")]))
    assert "How does a whole model take to pruning" in text
    with pytest.raises(websockets.InvalidStatus):
        ask(port, [page("model")], Origin="http://evil.example")


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/_stcore/stream"])
def test_another_name_that_points_here_is_refused(server, path):
    port, _ = server

    headers = {"Host": "evil.example"}
    if path.endswith("stream"):
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        headers["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == 400


def test_the_folder_of_the_app_does_not_leave_the_server(server):
    port, _ = server
    (session,) = [each.new_session for each in ask(port, [page("model")]) if each.HasField("new_session")]
    assert session.main_script_path.endswith("-/app/main.py")


def test_messages_that_no_page_of_ours_sends_are_dropped():
    forged = [BackMsg(clear_cache=True), BackMsg(load_git_info=True), BackMsg(set_run_on_save=True)]
    forged += [BackMsg(debug_shutdown_runtime=True), BackMsg(debug_disconnect_websocket=True)]
    sent = [{"type": "websocket.connect"}]
    sent += [{"type": "websocket.receive", "bytes": each.SerializeToString()} for each in forged]
    sent += [{"type": "websocket.receive", "bytes": page("model").SerializeToString()}]
    received, coming = [], iter(sent)

    async def receive() -> dict:
        return next(coming)

    async def streamlit(scope: dict, receive: Receive, send: Send) -> None:
        received.extend([await receive(), await receive()])

    asyncio.run(Guarded(streamlit)({"type": "websocket"}, receive, None))
    assert received == [sent[0], sent[-1]]


def test_forged_controls_reach_nothing(server):
    """Buttons and boxes that a reader's page does not have, pressed and filled all the same."""
    port, folder = server
    before = sorted(path.name for path in (folder / "runs").iterdir())
    forged = page("model", "run=half&from=mine")
    for name in ("new_start", "resume_run", "cancel_run", "delete", "continue_prompt", "lock", "unlocked"):
        for shape in (name, f"$$ID-{'0' * 32}-{name}"):
            widget = forged.rerun_script.widget_states.widgets.add()
            widget.id, widget.trigger_value = shape, True
    for name in ("new_run", "presenter", "may"):
        widget = forged.rerun_script.widget_states.widgets.add()
        widget.id, widget.bool_value = name, True
    answers = str(ask(port, [page("model", "run=half"), forged, forged]))
    assert "Start" not in [
        line.split('"')[1] for line in answers.splitlines() if line.strip().startswith("label:")
    ]
    assert "You are the presenter" not in answers
    assert str(folder) not in answers
    after = sorted(path.name for path in (folder / "runs").iterdir())
    assert [name for name in after if name != ".jobs"] == [name for name in before if name != ".jobs"]
    assert not list((folder / "runs").glob(".jobs/*.job"))
