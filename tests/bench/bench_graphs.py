"""Items of three dependent reads, over links of 0, 5 and 50 ms: ours and by hand.

Every way runs in a process of its own (``graph_clients.py``), against the same server, through the
same link (``slow_link.py``), and all take turns. Sequential ways are measured with fewer items of
the thousand and scaled up. Then: what ``lazy()`` costs where nothing can be combined, and what a
pending thunk weighs.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowkit.demo.earthquakes import load
from flowkit.demo.server import demo_server

ITEMS = 1_000
NETWORKS = 12
FEW = 20
ROUNDS = 3
TURNS = 300
PENDING = 100_000
ROUND_TRIPS_MS = (0, 5, 50)
WAYS = (
    "lazy()",
    "async_(batch=True)",
    "lazy(batch=False)",
    "async_()",
    "sequential",
    "aiohttp",
    "requests, threads",
    "requests, gevent pool",
    "grequests",
    "requests, sequential",
)
HERE = Path(__file__).parent


@contextmanager
def link(url: str, round_trip_ms: float) -> Iterator[str]:
    """The URL of the server behind a link."""
    command = [sys.executable, str(HERE / "slow_link.py"), url, str(round_trip_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def seconds(way: str, graph: str, url: str, token: str, items: int) -> list:
    """Seconds and processor seconds of one way; what it prints."""
    command = [sys.executable, str(HERE / "graph_clients.py"), way, graph, url, token, str(items)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
    return json.loads(done.stdout)


def fill(api) -> None:
    """The two graphs' data."""
    load(api)
    for number in range(10):
        api.flow.create({"path": f"/bench/w/{number}"})
    flows = [api.flow.create({"path": f"/bench/f/{n}"})["id"] for n in range(ITEMS)]
    with api.lazy() as writes:
        for number, flow in enumerate(flows):
            writes.drop(flow).create({"elems": {"next": flows[-1 - number], "n": number}})


def table(graph: str, items: int, server) -> None:
    """A line for each way, a column for each link."""
    taken = {way: {ms: [] for ms in ROUND_TRIPS_MS} for way in WAYS}
    for round_trip_ms in ROUND_TRIPS_MS:
        with link(server.url, round_trip_ms) as url:
            for _ in range(ROUNDS):
                for way in WAYS:
                    some = min(items, FEW) if "sequential" in way else items
                    spent = seconds(way, graph, url, server.credentials.token, some)
                    taken[way][round_trip_ms].append([one * items / some for one in spent])
    head = "".join(f"{f'{one} ms':>12}" for one in ROUND_TRIPS_MS)
    print(f"  {graph}, {items:,} items: {'seconds':<8}{head}{'processor':>13}")
    for way, spans in taken.items():
        cells = "".join(
            f"{statistics.median(s for s, _ in some):10.3f} s" for some in spans.values()
        )
        cpu = statistics.median(c for _, c in spans[ROUND_TRIPS_MS[0]])
        print(f"  {way:<28}{cells}{cpu:11.3f} s", flush=True)


def nothing_to_combine(server) -> None:
    """What waves cost where there is nothing to combine, without a link."""
    print("  nothing to combine, ms")
    token = server.credentials.token
    for told, batch, taken_ms in seconds("nothing to combine", "-", server.url, token, TURNS):
        way = "lazy()" if batch else "lazy(batch=False)"
        print(f"  {f'{told}, {way}':<44}{taken_ms:8.2f}")


def rss_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def weight(api) -> None:
    """Memory of many pending thunks."""
    gc.collect()
    before = rss_bytes()
    lazy = api.lazy()
    thunks = [lazy.flow.read("f" + f"{n:024x}") for n in range(PENDING)]
    grown = rss_bytes() - before
    print(
        f"  {len(thunks):,} pending thunks: {grown / 1e6:.0f} MB, {grown / PENDING:,.0f} bytes each"
    )


def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as folder, demo_server(Path(folder), "bench") as server:
        with server.connect() as api:
            weight(api)
            fill(api)
        table("quakes", NETWORKS, server)
        table("thousand", ITEMS, server)
        nothing_to_combine(server)


if __name__ == "__main__":
    os.chdir(HERE)
    main()
