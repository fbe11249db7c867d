"""Subscriptions: what a client receives, a server delivers, how late a push is, what filters cost.

Receiving: a server that only sends, and clients in processes of their own. Delivering: the peers'
servers (``fan_out.py``), and cheap receivers that are the same for each of them (``receivers.py``).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from fan_out import BATCH, PUBLISHERS, Peer, broadcaster, delivered, flowkit_peer, redis
from peers import Absent
from receive_clients import CLIENTS
from receivers import Receivers, open_files_max
from timing import show

from flowkit.demo.server import demo_server

MESSAGES = 50_000
ROUNDS = 3
SUBSCRIBERS = (100, 1_000)
FILTERS = 1_000
HERE = Path(__file__).parent


def version_of(package: str) -> str:
    """Its name and version."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


def child(script: str, *arguments: object) -> list[str]:
    """A command that runs one of this folder's programs."""
    return [sys.executable, str(HERE / script), *map(str, arguments)]


def received() -> dict[str, float]:
    """Messages per second that one client receives, the median of some rounds in turn."""
    server = subprocess.Popen(child("blast_server.py", MESSAGES), stdout=subprocess.PIPE)
    spans: dict[str, list[float]] = {name: [] for name in CLIENTS}
    try:
        port = int(server.stdout.readline())
        for _ in range(ROUNDS):
            for name, taken in spans.items():
                command = child("receive_clients.py", name, port, MESSAGES)
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
                taken.append(float(done.stdout))
    finally:
        server.kill()
        server.wait()
    return {name: MESSAGES / statistics.median(taken) for name, taken in spans.items()}


class Platform:
    """A server of flowkit in a process of its own, with one flow."""

    def __init__(self, server) -> None:
        self.server = server
        self.port = urlsplit(server.url).port
        self.headers = {"X-Auth-Account": "bench", "X-Auth-Token": server.credentials.token}
        self.process = psutil.Process().children()[-1]
        with server.connect() as api:
            self.flow = api.flow.create({"path": "/bench/f", "capacity": 1_000})["id"]

    def peer(self, subscribes: list[dict]) -> Peer:
        """It as a peer whose receivers subscribe so."""
        asked = [{"msgId": "1", "flowId": self.flow, **one} for one in subscribes]
        return flowkit_peer(self.port, self.flow, self.headers, asked)

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextmanager
def flowkit_server() -> Iterator[Platform]:
    """A fresh one."""
    with tempfile.TemporaryDirectory() as folder, demo_server(Path(folder), "bench") as server:
        yield Platform(server)


def own_filters(count: int) -> list[dict]:
    """As many filters with texts of their own; every drop matches each of them."""
    return [{"sub": "s", "filter": f"temp >= 0 && name != 'x{n}'"} for n in range(count)]


def uvloop_broadcaster() -> AbstractContextManager[Peer]:
    """The library ``websockets`` on the faster loop that it recommends."""
    if version_of("uvloop").endswith("installed"):
        raise Absent("uvloop is not installed")
    return broadcaster("uvloop")


def fan_out(subscribers: int, size: int) -> dict[str, float]:
    """Delivered messages per second, of every peer, published so many at once."""
    figures: dict[str, float] = {}

    def measure(name: str, opened: Callable, asked: list[dict] | None, stalled: int) -> None:
        label = f"{name}, one stalled" if stalled else name
        try:
            with opened() as server:  # a fresh one: sessions outlive their connections for a while
                peer = server if asked is None else server.peer(asked)
                figures[label] = delivered(peer, subscribers, stalled=stalled, size=size)
        except Absent as error:
            print(f"  {label} was not measured: {error}")

    one_for_all, own = [{"sub": "s", "filter": "temp >= 0"}], own_filters(subscribers)
    for stalled in (0, 1):
        measure("websockets", broadcaster, None, stalled)
        measure("websockets on uvloop", uvloop_broadcaster, None, stalled)
        measure("flowkit", flowkit_server, [{}], stalled)
        measure("flowkit, one filter", flowkit_server, one_for_all, stalled)
        measure("flowkit, a filter each", flowkit_server, own, stalled)
        measure("Redis", redis, None, stalled)
    return figures


def latency() -> None:
    """Milliseconds until the callback, from the answer to a write and from its beginning."""
    with flowkit_server() as platform:
        print(f"  {'':<28}{'after the answer':^24}{'after the beginning':^24}")
        print(f"  {'':<28}" + f"{'p50':>12}{'p99':>12}" * 2)
        show_latency("quiet", platform)
        with Receivers("flowkit", platform.port, 100, platform.peer([{}]).options):
            show_latency("100 other subscribers", platform)
        busy = subprocess.Popen(child("latency_clients.py", "load", where(platform)))
        try:
            show_latency("300 drops/s in other flows", platform)
        finally:
            busy.kill()
            busy.wait()


def where(platform: Platform) -> str:
    """What another process needs to know."""
    url, token = platform.server.url, platform.server.credentials.token
    return json.dumps({"url": url, "token": token, "flow": platform.flow})


def show_latency(name: str, platform: Platform) -> None:
    """One line."""
    command = child("latency_clients.py", "write", where(platform))
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    line = f"  {name:<28}"
    for spans in json.loads(done.stdout):
        for cut in (statistics.median(spans), statistics.quantiles(spans, n=100)[98]):
            line += f"{cut * 1e3:9.2f} ms"
    print(line)


def filters_cost() -> dict[str, float]:
    """Processor time of the server for one drop, with filters that do not match it.

    One more subscriber gets everything: the hub works in order, so when it has, all is done.
    """
    figures: dict[str, float] = {}
    batches = 20
    one = [{"sub": "s", "filter": "temp > 1000"}] * FILTERS
    own = [{"sub": "s", "filter": f"temp > {1_000 + n}"} for n in range(FILTERS)]
    for name, asked in (
        ("1 subscriber", []),
        (f"and {FILTERS:,} with the same filter", one),
        (f"and {FILTERS:,} with a filter each", own),
    ):
        with flowkit_server() as platform:
            peer = platform.peer([*asked, {}])
            with Receivers("flowkit", platform.port, len(asked) + 1, peer.options) as receivers:
                publish = peer.publisher()
                publish(0, BATCH)
                receivers.await_messages(BATCH)
                start = platform.cpu_s()
                for batch in range(1, batches + 1):
                    publish(batch * BATCH, BATCH)
                    receivers.await_messages((batch + 1) * BATCH)
                figures[name] = (platform.cpu_s() - start) / (batches * BATCH)
    return figures


if __name__ == "__main__":
    os.chdir(HERE)
    open_files_max()
    print(", ".join(map(version_of, ("websockets", "websocket-client", "redis", "uvloop"))))
    print(f"one client receives {MESSAGES:,} messages")
    show(received(), "messages/s")
    for subscribers in SUBSCRIBERS:
        for size in (BATCH, 1):
            how = f"in batches of {size}" if size > 1 else f"singly by {PUBLISHERS}"
            print(f"{subscribers:,} subscribers together receive, published {how}")
            show(fan_out(subscribers, size), "messages/s")
    print("from a write until the callback")
    latency()
    print("processor time of the server for one drop of a batch")
    show(filters_cost(), "µs", 1e6)
