"""kill -9 of a real ``flowkit serve`` with everything at work: writes, Tracks, statistics, tasks.

The load is that of ``test_crash_server``. Its flow is the source of two Tracks (one filter-only,
whose destination is the source of a third, and one with a script); in each round an RSS task begins
to import a feed. After every crash and a new start: each drop has come through each Track exactly
once, each entry of each feed is there once, the statistics are the numbers of the drops, and
``verify`` finds nothing.

``FLOWKIT_CRASH_ROUNDS`` sets the number of crashes.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.server_process import ServerProcess
from tests.together.test_crash_server import (
    KEPT,
    ROUNDS,
    ROUNDS_PER_FOLDER,
    SMALL,
    SMALL_CAPACITY,
    Caller,
    Write,
    check,
    crash,
)

COPIES, SECOND, SCRIPTED, NEWS = "/nora/copies", "/nora/second", "/nora/scripted", "/nora/news"
ENTRIES = 20
SCRIPT = "function (drop) { drop.elems.seen = true; return drop; }"


class Feed(BaseHTTPRequestHandler):
    """An RSS feed of some entries."""

    def do_GET(self) -> None:
        """The same feed for every path."""
        items = "".join(
            f"<item><guid>g{n}</guid><title>entry {n}</title><link>http://e/{n}</link></item>"
            for n in range(ENTRIES)
        )
        body = f'<rss version="2.0"><channel><title>f</title>{items}</channel></rss>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/rss+xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def feed() -> Iterator[str]:
    """A running server of feeds; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Feed)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/feed"
    finally:
        server.shutdown()
        server.server_close()


def until(right: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    """Ask again until *right* holds."""
    end = time.monotonic() + seconds
    while not right():
        assert time.monotonic() < end, f"{what} did not come within {seconds:g} s"
        time.sleep(0.02)


class House:
    """The flows, Tracks and tasks of one data folder, as they were made."""

    def __init__(self, caller: Caller) -> None:
        self.flows = {
            path: caller.ask("POST", "/flow", {"path": path, "capacity": capacity})["id"]
            for path, capacity in (
                (KEPT, 100_000),
                (COPIES, 100_000),
                (SECOND, 100_000),
                (SCRIPTED, 100_000),
                (SMALL, SMALL_CAPACITY),
            )
        }
        self.tracks = {
            path: caller.ask("POST", "/track", {"source": source, "destination": path, **more})[
                "id"
            ]
            for path, source, more in (
                (COPIES, KEPT, {"filter": "EXISTS mark"}),
                (SECOND, COPIES, {}),
                (SCRIPTED, KEPT, {"js": SCRIPT}),
            )
        }
        self.identity = caller.ask("GET", "/identity")[0]["id"]

    def import_feed(self, caller: Caller, number: int, url: str) -> None:
        """Begin to import a feed into a flow of its own."""
        path = f"{NEWS}-{number}"
        self.flows[path] = caller.ask("POST", "/flow", {"path": path})["id"]
        caller.ask("POST", "/rss", {"url": url, "destination": path, "periodicity": 60_000})

    def count(self, caller: Caller, kind: str, object_id: str) -> int:
        """What the statistics say of an object, over all years."""
        return sum(caller.ask("GET", f"/statistics/{kind}/{object_id}"))

    def check(self, caller: Caller) -> None:
        """Every drop went everywhere once, and everything is counted exactly."""
        kept = {drop["id"]: drop for drop in drops_in(caller, KEPT)}
        for path, parents in ((COPIES, KEPT), (SCRIPTED, KEPT), (SECOND, COPIES)):
            sources = {drop["id"]: drop for drop in drops_in(caller, parents)}
            until(lambda p=path: len(drops_in(caller, p)) >= len(kept), f"drops in {path}")
            came = drops_in(caller, path)
            assert sorted(drop["parentDropId"]["dropId"] for drop in came) == sorted(sources)
            marks = sorted(drop["elems"]["mark"] for drop in came)
            assert marks == sorted(drop["elems"]["mark"] for drop in kept.values())
            assert self.count(caller, "flowDropAdded", self.flows[path]) == len(came)
            assert self.count(caller, "trackHit", self.tracks[path]) == len(came)
            assert self.count(caller, "trackPass", self.tracks[path]) == len(came)
        assert self.count(caller, "flowDropAdded", self.flows[KEPT]) == len(kept)
        for path in self.flows:
            if path.startswith(NEWS):
                until(lambda p=path: len(drops_in(caller, p)) >= ENTRIES, f"entries in {path}")
                titles = [drop["elems"]["title"] for drop in drops_in(caller, path)]
                assert sorted(titles) == sorted(f"entry {n}" for n in range(ENTRIES))
                assert self.count(caller, "flowDropAdded", self.flows[path]) == ENTRIES


def drops_in(caller: Caller, path: str) -> list[Any]:
    """All drops of a flow."""
    return caller.ask("GET", f"/drop?path={quote(path, safe='')}&limit=100000")


def rounds(folder: Path, count: int, url: str, chance: random.Random) -> int:
    """*count* crashes on one folder; how many writes were answered."""
    writes: list[Write] = []
    lost: list[Write] = []
    house = secret = None
    for number in range(count + 1):
        with ServerProcess(folder, FLOWKIT_ALLOW_HOSTS="127.0.0.1") as server:
            secret = secret or str(server.secret)
            caller = Caller(server, secret, "caller")
            if house is None:
                house = House(caller)
            else:
                check(server, secret, writes, lost)
                house.check(caller)
                writes, lost = [*writes, *lost], []
            if number == count:
                assert server.end()[0] == 0
                continue
            house.import_feed(caller, number, url)
            callers = crash(server, secret, str(number), chance.randrange(1, 200))
        assert verify(folder / FILE_NAME) == []
        writes += [write for caller in callers for write in caller.answered]
        lost = [write for caller in callers for write in caller.lost]
    assert verify(folder / FILE_NAME) == []
    return len(writes)


@pytest.mark.slow
@pytest.mark.timeout(90 + 30 * ROUNDS)
def test_crashes_under_full_load_lose_and_double_nothing(tmp_path):
    """What was answered is there, each Track and task did its work once, and all is counted."""
    pytest.importorskip("quickjs", reason="scripts need the extra js: pip install flowkit[js]")
    pytest.importorskip(
        "feedparser", reason="tasks need the extra tasks: pip install flowkit[tasks]"
    )
    chance = random.Random(datetime.now(UTC).isoformat())
    with feed() as url:
        for start in range(0, ROUNDS, ROUNDS_PER_FOLDER):
            some = min(ROUNDS_PER_FOLDER, ROUNDS - start)
            assert rounds(tmp_path / f"data{start}", some, url, chance) > 0
