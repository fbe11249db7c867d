"""A thousand items of three dependent reads, over links of 0, 5 and 50 ms: ours and by hand.

Every way runs in a process of its own (``graph_clients.py``), against the same server, through the
same link (``slow_link.py``). Sequential ways are measured with fewer items and scaled up.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowkit.demo.server import demo_server

ITEMS = 1_000
FEW = 20
ROUNDS = 3
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


def seconds(way: str, url: str, token: str) -> tuple[float, float]:
    """Seconds and processor seconds of one way for all items."""
    count = FEW if "sequential" in way else ITEMS
    command = [sys.executable, str(HERE / "graph_clients.py"), way, url, token, str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
    return tuple(figure * ITEMS / count for figure in json.loads(done.stdout))


def main() -> None:
    """One table: a line for each way, a column for each link."""
    with tempfile.TemporaryDirectory() as folder, demo_server(Path(folder), "bench") as server:
        with server.connect() as api:
            flows = [api.flow.create({"path": f"/bench/f{n}"})["id"] for n in range(ITEMS)]
            with api.lazy() as writes:
                for number, flow in enumerate(flows):
                    writes.drop(flow).create({"elems": {"next": flows[-1 - number], "n": number}})
        token = server.credentials.token
        taken: dict[str, dict[float, list[tuple[float, float]]]] = {way: {} for way in WAYS}
        for round_trip_ms in ROUND_TRIPS_MS:
            with link(server.url, round_trip_ms) as url:
                for _ in range(ROUNDS):
                    for way in WAYS:
                        spent = seconds(way, url, token)
                        taken[way].setdefault(round_trip_ms, []).append(spent)
    head = "".join(f"{f'{one} ms':>12}" for one in ROUND_TRIPS_MS)
    print(f"  {ITEMS:,} items, seconds{'':<6}{head}{'processor':>12}")
    for way, spans in taken.items():
        cells = "".join(
            f"{statistics.median(s for s, _ in some):10.2f} s" for some in spans.values()
        )
        cpu = statistics.median(c for _, c in spans[ROUND_TRIPS_MS[0]])
        print(f"  {way:<26}{cells}{cpu:10.2f} s")


if __name__ == "__main__":
    os.chdir(HERE)
    main()
