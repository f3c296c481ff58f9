"""Thirty readers of one server, while it prunes: how long each waits for a page, what a session costs, what stays.

    python -m benchmarks.seminar

The readers speak Streamlit's protocol over loopback, as a browser does, up to the last message of a page; they draw no
charts, since thirty browsers would measure this machine's cores rather than the server. All thirty ask for the Model
page of a run that came with the app at the same moment, and a run of the demo model computes meanwhile.

`--visits` then opens pages one after the other, each in a session of its own that ends.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.util import calc_hash

from app.services.jobs.manager import RunJobs
from tests.browser.harness import AppServer, running_app

RUN = "demo-trim-70"
PAGES = {
    "model": f"run={RUN}",
    "runs": f"run={RUN}",
    "compare": "",
    "learn": "step=6",
    "paper": "",
    "stored": f"run={RUN}&layer=15.mlp.gate_proj",
}
GOAL_SECONDS = 5.0
SETTLE_SECONDS = (
    12.0  # after sessions end: Streamlit keeps a lost session for a while, should its reader come back
)
PATIENCE_SECONDS = 120
WARM_UP = 60  # visits that fill the bounded caches


@dataclass(frozen=True)
class Visit:
    """One page, seconds until its last message, and what was received."""

    seconds: float
    bytes: int
    charts: int


class Reader:
    """One session over a websocket."""

    def __init__(self, server: AppServer) -> None:
        self._url = server.url.replace("http://", "ws://") + "/_stcore/stream"

    async def __aenter__(self) -> "Reader":
        self._socket = await websockets.connect(
            self._url, subprotocols=["streamlit"], max_size=None, proxy=None
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._socket.close()

    async def open(self, page: str) -> Visit:
        """Ask for a page, and read it to its end."""
        ask = BackMsg()
        ask.rerun_script.query_string = PAGES[page]
        ask.rerun_script.page_script_hash = calc_hash(page)
        started, received, charts = time.monotonic(), 0, 0
        await self._socket.send(ask.SerializeToString())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                content = await self._socket.recv()
                received += len(content)
                message = ForwardMsg.FromString(content)
                charts += message.delta.new_element.WhichOneof("type") == "plotly_chart"
                if message.delta.new_element.WhichOneof("type") == "exception":
                    raise RuntimeError(message.delta.new_element.exception.message)
                if message.WhichOneof("type") == "script_finished":
                    if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                        return Visit(time.monotonic() - started, received, charts)
                    if message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        raise RuntimeError("the page's script did not compile")


async def crowd(server: AppServer, readers: int, jobs: RunJobs) -> dict:
    """All readers at once."""
    async with Reader(server) as first:  # loads what the first visit on a server loads
        alone = [await first.open("model") for _ in range(3)]
    await asyncio.sleep(SETTLE_SECONDS)
    before = server.resident_bytes()
    job = jobs.start(["demo", "--target", "0.7", "--windows", "16", "--length", "256"], "meanwhile")
    while (state := jobs.state(job)).progress is None or not state.progress.now.fraction:
        if not state.active:
            raise RuntimeError(jobs.output(job))
        await asyncio.sleep(0.2)
    sessions = [Reader(server) for _ in range(readers)]
    for session in sessions:
        await session.__aenter__()
    visits = await asyncio.gather(*(session.open("model") for session in sessions))
    computing = jobs.state(job).active
    during = server.resident_bytes()
    for session in sessions:
        await session.__aexit__()
    while jobs.state(job).active:
        jobs.cancel(job)
        await asyncio.sleep(0.5)
    await asyncio.sleep(SETTLE_SECONDS)
    after = server.resident_bytes()
    seconds = sorted(visit.seconds for visit in visits)
    return {
        "readers": readers,
        "served": len(visits),
        "alone_seconds": round(alone[-1].seconds, 2),
        "median_seconds": round(statistics.median(seconds), 2),
        "p95_seconds": round(seconds[int(0.95 * (len(seconds) - 1))], 2),
        "slowest_seconds": round(seconds[-1], 2),
        "page_megabytes": round(visits[0].bytes / 1e6, 2),
        "page_charts": visits[0].charts,
        "run_still_computing": computing,
        "session_megabytes": round((during - before) / readers / 1e6, 2),
        "kept_after_megabytes": round((after - before) / 1e6, 1),
    }


async def one_after_the_other(server: AppServer, visits: int) -> dict:
    """Page after page, each in a session that ends."""
    names = list(PAGES)
    seconds, resident = [], {}
    for number in range(visits):
        async with Reader(server) as reader:
            seconds.append((await reader.open(names[number % len(names)])).seconds)
        if number + 1 in (WARM_UP, visits // 2, visits):
            await asyncio.sleep(SETTLE_SECONDS)
            resident[number + 1] = round(server.resident_bytes() / 1e6)
    warm, half, end = resident.values()
    return {
        "visits": visits,
        "visit_median_seconds": round(statistics.median(seconds), 3),
        "resident_megabytes": resident,
        "grown_megabytes": end - warm,
        "grown_second_half_megabytes": end - half,
    }


def main() -> None:
    """Print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, default=30)
    parser.add_argument("--visits", type=int, default=500, help=f"0: none; otherwise more than {2 * WARM_UP}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as server:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning", flush=True)
        jobs = RunJobs(lambda: Path(folder) / "runs")
        result = asyncio.run(crowd(server, asked.readers, jobs))
        print(json.dumps(result), flush=True)
        if asked.visits:
            result |= asyncio.run(one_after_the_other(server, asked.visits))
    print(json.dumps(result | {"cores": os.cpu_count(), "goal_met": result["p95_seconds"] < GOAL_SECONDS}))


if __name__ == "__main__":
    main()
