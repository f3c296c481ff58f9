"""Readers of one seminar server: waiting times, the cost of a page and a session, and the memory that remains.

    python -m benchmarks.seminar

The server is that of `make seminar`, and the presenter has the demo model's first layer open. The readers speak
Streamlit's protocol over loopback, as a browser does, up to the last message of a page; they draw no charts, since
thirty browsers would measure this machine's cores rather than the server.

1. Each page alone, in new sessions one after the other: the server's CPU.
2. Thirty open sessions, four rounds: in each round every session asks, within one second, for a page that it has not
   drawn yet: Layer, Model, Compare and Paper in turn.
3. Sixty sessions for 100 s: each opens page after page and reads each for 5 to 10 s.
4. Pages one after the other, each in a session of its own that ends (`--visits`).
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.script import print_report, script_parser
from benchmarks.sessions import PATIENCE_SECONDS, PageSession, p95
from tests.browser.harness import AppServer, running_app

RUN = "demo-trim-70"
CODE = "code-of-the-benchmark"
PAGES = {
    "layer": "",
    "model": f"run={RUN}",
    "compare": "",
    "paper": "",
    "stored": f"run={RUN}&layer=15.mlp.gate_proj",
    "runs": f"run={RUN}",
    "learn": "step=6",
}
PRESENTED = "windows=16&length=256"  # the presenter's text for the first layer, which makes it a live one
IN_TURN = ("layer", "model", "compare", "paper")
FIRST = "runs"  # the page that sessions open first
READING_SECONDS = (5.0, 10.0)
GOAL_SECONDS, GOAL_CPU_SECONDS = 2.0, 0.06
SETTLE_SECONDS = (
    12.0  # after sessions end: Streamlit keeps a lost session for a while, should its reader come back
)
WARM_UP = 60  # visits that fill the bounded caches


@dataclass(frozen=True)
class Visit:
    """One page: seconds until its last message, and the received bytes."""

    seconds: float
    bytes: int
    elements: Sequence[Element]

    @property
    def charts(self) -> int:
        """Return the number of charts on the page."""
        return sum(
            element.WhichOneof("type") in ("plotly_chart", "bidi_component") for element in self.elements
        )


class Reader(PageSession):
    """One session over a websocket."""

    async def open(self, page: str, wait: float = 0, **widgets: str | bool) -> Visit:
        """Ask for a page after a wait, with values of widgets by their ids, and read it to its end."""
        await asyncio.sleep(wait)
        started, received, elements = time.monotonic(), 0, []
        await self.ask("layer" if page == "presented" else page, PAGES.get(page, PRESENTED), **widgets)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                message, size = await self.receive()
                received += size
                element = message.delta.new_element
                if message.WhichOneof("type") == "delta" and element.WhichOneof("type"):
                    elements.append(element)
                if message.WhichOneof("type") == "script_finished":
                    if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                        return Visit(time.monotonic() - started, received, elements)
                    if message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        raise RuntimeError("the page's script did not compile")


async def present(server: AppServer, presenter: Reader) -> None:
    """Unlock the presenter's session, open a layer, and wait until readers see it."""
    shown = await presenter.open("runs")
    ids = {
        (element.text_input.label or element.button.label): element.text_input.id or element.button.id
        for element in shown.elements
        if element.WhichOneof("type") in ("text_input", "button")
    }
    await presenter.open("runs", **{ids["Presenter's code"]: CODE, ids["Unlock"]: True})
    deadline = time.monotonic() + 10 * PATIENCE_SECONDS
    while time.monotonic() < deadline:
        await presenter.open("presented")
        async with Reader(server) as reader:
            seen = await reader.open("layer")
        if any("calibration vectors" in element.markdown.body for element in seen.elements):
            return
        await asyncio.sleep(1)
    raise RuntimeError("the presenter's layer does not open")


async def alone(server: AppServer, visits: int = 8) -> dict[str, dict]:
    """Open each page in new sessions, one after the other."""
    found = {}
    for page in PAGES:
        seconds, before = [], 0.0
        for number in range(visits + 1):
            if number == 1:  # the first session draws what all share
                before = server.cpu_seconds()
            async with Reader(server) as reader:
                visit = await reader.open(page)
                seconds.append(visit.seconds)
        found[page] = {
            "cpu_seconds": round((server.cpu_seconds() - before) / visits, 3),
            "seconds": round(statistics.median(seconds[1:]), 3),
            "first_seconds": round(seconds[0], 2),
            "megabytes": round(visit.bytes / 1e6, 2),
            "charts": visit.charts,
        }
    return found


async def all_at_once(server: AppServer, readers: int) -> dict:
    """Let open sessions ask for pages that they have not drawn, all within one second."""
    before = server.resident_bytes()
    sessions = [Reader(server) for _ in range(readers)]
    for session in sessions:
        await session.__aenter__()
        await session.open(FIRST)
    visits, cpu = [], server.cpu_seconds()
    for turn in range(len(IN_TURN)):
        asked = (
            session.open(IN_TURN[(place + turn) % len(IN_TURN)], wait=place / readers)
            for place, session in enumerate(sessions)
        )
        visits += await asyncio.gather(*asked)
        await asyncio.sleep(1)
    cpu = server.cpu_seconds() - cpu
    during = server.resident_bytes()
    for session in sessions:
        await session.__aexit__()
    await asyncio.sleep(SETTLE_SECONDS)
    return timed([visit.seconds for visit in visits]) | {
        "readers": readers,
        "cpu_seconds_a_page": round(cpu / len(visits), 3),
        "session_megabytes": round((during - before) / readers / 1e6, 2),
        "kept_after_megabytes": round((server.resident_bytes() - before) / 1e6, 1),
    }


async def for_a_while(server: AppServer, readers: int, seconds: float) -> dict:
    """Let sessions read page after page."""
    ends, found, errors = time.monotonic() + seconds, [], []
    cpu, chance = server.cpu_seconds(), random.Random(0)

    async def read(place: int) -> None:
        await asyncio.sleep(chance.uniform(0, READING_SECONDS[1]))
        try:
            async with Reader(server) as session:
                for page in itertools.islice(itertools.cycle(PAGES), place, None):
                    if time.monotonic() > ends:
                        return
                    found.append((await session.open(page)).seconds)
                    await asyncio.sleep(chance.uniform(*READING_SECONDS))
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    await asyncio.gather(*map(read, range(readers)))
    return timed(found) | {
        "readers": readers,
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "cpu_seconds_a_page": round((server.cpu_seconds() - cpu) / max(1, len(found)), 3),
    }


def timed(seconds: list[float]) -> dict:
    """Summarize waiting times."""
    return {
        "pages": len(seconds),
        "median_seconds": round(statistics.median(seconds), 2),
        "p95_seconds": round(p95(seconds), 2),
        "slowest_seconds": round(max(seconds), 2),
    }


async def one_after_the_other(server: AppServer, visits: int) -> dict:
    """Open page after page, each in a session that ends."""
    names = list(PAGES)
    resident = {}
    for number in range(visits):
        async with Reader(server) as reader:
            await reader.open(names[number % len(names)])
        if number + 1 in (WARM_UP, visits // 2, visits):
            await asyncio.sleep(SETTLE_SECONDS)
            resident[number + 1] = round(server.resident_bytes() / 1e6)
    warm, half, end = resident.values()
    return {
        "resident_megabytes": resident,
        "grown_megabytes": end - warm,
        "grown_second_half_megabytes": end - half,
    }


async def measure(server: AppServer, asked: argparse.Namespace) -> dict:
    """Run all parts, and print each when it is done."""
    result: dict = {}

    def tell(name: str, part: dict) -> None:
        result[name] = part
        print(name, json.dumps(part), flush=True)

    async with Reader(server) as presenter:
        await present(server, presenter)
        tell("alone", await alone(server))
        tell("at_once", await all_at_once(server, asked.readers))
        if asked.seconds:
            tell("for_a_while", await for_a_while(server, 2 * asked.readers, asked.seconds))
        if asked.visits:
            tell("one_after_the_other", await one_after_the_other(server, asked.visits))
    return result


def main() -> None:
    """Run the benchmark; print one JSON line last."""
    parser = script_parser(__doc__)
    parser.add_argument("--readers", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=100, help="of twice as many readers; 0: none")
    parser.add_argument("--visits", type=int, default=500, help=f"0: none; otherwise more than {2 * WARM_UP}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {"TRIM_PRESENTER_CODE": CODE}
        with running_app(Path(folder), environment=environment, seminar=True) as server:
            load = os.getloadavg()[0]
            print(f"{os.cpu_count()} cores, load {load:.1f} at the beginning", flush=True)
            result = asyncio.run(measure(server, asked))
    at_once = result["at_once"]
    print_report(
        "seminar",
        **result,
        load_before=round(load, 1),
        goal_met=at_once["p95_seconds"] < GOAL_SECONDS,
        cpu_goal_met=at_once["cpu_seconds_a_page"] <= GOAL_CPU_SECONDS,
    )


if __name__ == "__main__":
    main()
