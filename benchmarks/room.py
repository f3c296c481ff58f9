"""Thirty readers of a seminar follow every step of Learn's slides and answer every question.

    python -m benchmarks.room

One presenter and the readers speak Streamlit's protocol over loopback, as the pages' own wire does; they draw nothing,
since thirty browsers would measure this machine's cores rather than the server. "follow" is the time from the
presenter's key to the moment when a reader's page has been told; "answer" from a reader's click to its receipt. Last
a reader forges: turns the room's pages, clears answers, answers what there is not, twice, in a flood and too late.
"""

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from app.services.server.access import CODE
from app.ui.learn.course import course
from app.ui.learn.room import READER_SECONDS
from benchmarks.script import print_report, script_parser
from benchmarks.sessions import PATIENCE_SECONDS, PageSession, p95
from tests.browser.harness import AppServer, running_app

PRESENTERS_CODE = "benchmark of the room"
GOAL_SECONDS, GOAL_ANSWER_SECONDS = 1.5, 0.5
SETTLE_SECONDS = 1.0  # between two keys of the presenter
FLOOD = 300  # answers of one session, each under another id
ASKED = 1  # the step whose question gets forged answers


class Session(PageSession):
    """One page over a websocket, with the server's last message about the room and its time."""

    def __init__(self, server: AppServer, query: str) -> None:
        super().__init__(server)
        self._query = query
        self._ended = asyncio.Event()
        self.ids: dict[str, str] = {}  # of widgets, by their labels
        self.room: dict = {}
        self.fragment = self.component = ""
        self._told = asyncio.Event()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._listening.cancel()
        await super().__aexit__()

    async def run(self, **widgets: object) -> None:
        """Run the page's script to its end."""
        self._ended.clear()
        await self.ask("learn", self._query, **widgets)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._ended.wait()

    def present(self) -> None:
        """Ask for presenter mode from the next run on."""
        self._query += "&present=1"

    async def tick(self) -> None:
        """Run the wire's fragment again, as the page's timer does."""
        await self.ask("learn", self._query, self.fragment)

    async def tell(self, event: str, value: dict[str, object]) -> None:
        """Send an event as the slides would."""
        widget = f"$$STREAMLIT_INTERNAL_KEY_{self.component}__events"
        events = [{"event": event, "value": value}]
        await self.ask("learn", self._query, self.fragment, **{widget: events})

    async def until(self, right: Callable[[dict], bool]) -> float:
        """Return the moment when the server has said something right of the room."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not right(self.room):
                self._told.clear()
                await self._told.wait()
        return time.perf_counter()

    async def _listen(self) -> None:
        while True:
            message, _ = await self.receive()
            element = message.delta.new_element
            kind = element.WhichOneof("type")
            if kind == "text_input":
                self.ids[element.text_input.label] = element.text_input.id
            elif kind == "button":
                self.ids[element.button.label] = element.button.id
            elif kind == "bidi_component" and element.bidi_component.component_name == "trim_room":
                self.fragment, self.component = message.delta.fragment_id, element.bidi_component.id
                self.room = json.loads(element.bidi_component.json or element.bidi_component.mixed.json)
                self._told.set()
            ended = message.WhichOneof("type") == "script_finished"
            if ended and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                self._ended.set()


async def unlocked(presenter: Session) -> None:
    """Open the page, enter the presenter's code and show the slides."""
    await presenter.run()
    await presenter.run(**{presenter.ids["Presenter's code"]: PRESENTERS_CODE, presenter.ids["Unlock"]: True})
    presenter.present()
    while not presenter.fragment:
        await presenter.run()


async def seminar(server: AppServer, readers: int) -> dict[str, object]:
    """Run the seminar: follow the presenter, and answer."""
    follow, answer = [], []
    async with Session(server, "step=1") as presenter:
        await unlocked(presenter)
        await presenter.tell("at", {"step": 0, "frame": 0, "reveal": 0})
        await presenter.until(lambda room: room["place"] is not None)
        sessions = [Session(server, "step=1") for _ in range(readers)]
        opened = time.perf_counter()
        for session in sessions:
            await session.__aenter__()
        await asyncio.gather(*(session.run() for session in sessions))
        opened = time.perf_counter() - opened

        async def polling(session: Session) -> None:
            await asyncio.sleep(random.random() * READER_SECONDS)
            while True:
                await session.tick()
                await asyncio.sleep(READER_SECONDS)

        timers = [asyncio.create_task(polling(session)) for session in sessions]
        for index, step in enumerate(course()):
            for reveal in range(3):
                place = {"step": index, "frame": 0, "reveal": reveal}
                pressed = time.perf_counter()
                await presenter.tell("at", place)
                answers = await asyncio.gather(
                    *(session.until(lambda room, place=place: room["place"] == place) for session in sessions)
                )
                follow += [moment - pressed for moment in answers]
                if reveal == 1:
                    answer += await asyncio.gather(
                        *(
                            reply(session, number, index, number % len(step.check.answers))
                            for number, session in enumerate(sessions)
                        )
                    )
                await asyncio.sleep(SETTLE_SECONDS)
        last = presenter.room["poll"]
        forged = await forge(presenter, *sessions[:2])
        for timer in timers:
            timer.cancel()
        for session in sessions:
            await session.__aexit__()
    return {
        "readers": readers,
        "all_pages_seconds": round(opened, 2),
        "follow_p95_seconds": round(p95(follow), 3),
        "answer_p95_seconds": round(p95(answer), 3),
        "answers_counted": last["given"] if last else 0,
    } | forged


async def forge(presenter: Session, forger: Session, honest: Session) -> dict[str, object]:
    """Send what no page sends; return whether it changed nothing, and how long an honest answer took meanwhile."""
    place = {"step": ASKED, "frame": 0, "reveal": 1}
    await presenter.tell("at", place)
    await forger.until(lambda room: room["place"] == place)
    await presenter.tell("clear", {"step": ASKED, "at": 0})
    await presenter.until(lambda room: room["poll"]["given"] == 0)
    for event, value in (
        ("at", {"step": 5, "frame": 0, "reveal": 0}),
        ("leave", {}),
        *(
            ("answer", {"step": ASKED, "choice": choice, "browser": "f" * 32})
            for choice in (-1, 99, True, 0.5, "0", None, [], {}, 10**400)
        ),
        *(("answer", {"step": step, "choice": 0, "browser": "f" * 32}) for step in (0, 10**9, None)),
        ("answer", {"step": ASKED, "choice": 0, "browser": "short"}),
        *(("answer", {"step": ASKED, "choice": 0, "browser": f"{id:032x}"}) for id in range(FLOOD)),
        ("clear", {"step": ASKED, "at": 0}),
    ):
        await forger.tell(event, value)
    seconds = await reply(honest, 10**6, ASKED, 2)
    await forger.until(lambda room: (room["poll"] or {}).get("given") == 2)
    await presenter.tell("at", place | {"reveal": 2})
    await forger.until(lambda room: room["place"]["reveal"] == 2)
    await forger.tell("answer", {"step": ASKED, "choice": 1, "browser": "e" * 32})
    await asyncio.sleep(SETTLE_SECONDS)
    await presenter.until(lambda room: room["place"]["reveal"] == 2)
    counts = presenter.room["poll"]["counts"]
    return {
        "forged_changes_nothing": counts == [1, 0, 1] and presenter.room["place"]["step"] == ASKED,
        "answer_during_flood_seconds": round(seconds, 3),
    }


async def reply(session: Session, number: int, step: int, choice: int) -> float:
    """Answer like a person, at any moment of two seconds; return the seconds until the receipt."""
    await asyncio.sleep(2 * random.random())
    clicked = time.perf_counter()
    await session.tell("answer", {"step": step, "choice": choice, "browser": f"{number:032x}"})
    return await session.until(lambda room: (room["poll"] or {}).get("mine") == choice) - clicked


def main() -> None:
    """Print one JSON line last."""
    parser = script_parser(__doc__)
    parser.add_argument("--readers", type=int, default=30)
    asked = parser.parse_args()
    environment = {CODE: PRESENTERS_CODE}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder), environment=environment, seminar=True) as server,
    ):
        result = asyncio.run(seminar(server, asked.readers))
    met = (
        result["forged_changes_nothing"]
        and result["follow_p95_seconds"] < GOAL_SECONDS
        and result["answer_p95_seconds"] < GOAL_ANSWER_SECONDS
    )
    print_report("room", **result, goal_met=met)


if __name__ == "__main__":
    main()
