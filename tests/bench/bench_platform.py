"""The platform over HTTP against a peer: single and bulk writes, with everything on.

flowkit: a token, a Flow with a filter, one filter Track, statistics. The peers have no Tracks and
no statistics; they check a schema (Kinto) or nothing (Parse Server). All answer a write after it
is on disk. The same loader asks all of them, from a process of its own on the same machine; what a
server refuses for the moment (409 or 503, "please retry") is asked again and not counted.
"""

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import gevent
from geventhttpclient import HTTPClient
from peers import Absent, kinto, parse_server, postgresql
from timing import show

from flowkit.demo.server import demo_server

SECONDS = 8.0
CONNECTIONS = (1, 32)
BULK_DROPS = 100


class Loader:
    """Asks one server over many connections and counts good answers."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self.prefix = parts.path
        self.client = HTTPClient(
            parts.hostname, parts.port, concurrency=64, connection_timeout=30, network_timeout=60
        )
        self.headers = headers
        self.refused = 0

    def send(self, method: str, path: str, body: object) -> object:
        """One request, repeated while the server asks for that; its answer, decoded."""
        while (answer := self.ask(method, path, body)) is None:
            self.refused += 1
        return answer

    def ask(self, method: str, path: str, body: object) -> object | None:
        """One request; None if it is to be repeated."""
        answer = self.client.request(
            method, self.prefix + path, json.dumps(body).encode(), headers=self.headers
        )
        text = answer.read()
        if answer.status_code in (409, 503):
            return None
        if answer.status_code not in (200, 201):
            raise AssertionError(f"{method} {path}: {answer.status_code} {text[:200]!r}")
        return json.loads(text)

    def rate(self, connections: int, ask) -> float:
        """Requests per second that *ask* gets answered."""
        done, until = 0, time.perf_counter() + SECONDS

        def worker(number: int) -> None:
            nonlocal done
            step = 0
            while time.perf_counter() < until:
                ask(self, number * 1_000_000 + step)
                step += 1
                done += 1

        start = time.perf_counter()
        gevent.joinall([gevent.spawn(worker, n) for n in range(connections)], raise_error=True)
        return done / (time.perf_counter() - start)


def elems(step: int) -> dict:
    """What one drop holds."""
    return {"temp": step % 100, "bench": f"b{step % 20}", "name": f"sensor-{step}", "ok": True}


def singles(name: str, loader: Loader, single) -> dict[str, float]:
    """The figures of single writes."""
    return {
        f"{name}: single, {connections} connections": loader.rate(connections, single)
        for connections in CONNECTIONS
    }


def measure(name: str, loader: Loader, single, bulk) -> dict[str, float]:
    """The figures of one server."""
    figures = singles(name, loader, single)
    rate = loader.rate(4, bulk) * BULK_DROPS
    figures[f"{name}: bulk of {BULK_DROPS}, 4 connections"] = rate
    if loader.refused:
        print(f"  ({name} asked for {loader.refused:,} repetitions)")
    return figures


def flowkit_figures() -> dict[str, float]:
    """flowkit, with a filter, a Track and statistics."""
    with tempfile.TemporaryDirectory() as folder, demo_server(Path(folder), "bench") as server:
        with server.connect() as api:
            members = {"path": "/bench/f", "capacity": 100_000, "filter": "EXISTS temp"}
            flow = api.flow.create(members)
            hot = api.flow.create({"path": "/bench/hot", "capacity": 100_000})
            api.track.create(
                {"source": "/bench/f", "destination": "/bench/hot", "filter": "temp > 89"}
            )
            secret = server.credentials.token
        headers = {"X-Auth-Token": secret, "Content-Type": "application/json"}
        loader = Loader(f"{server.url}/v4.0/bench", headers)
        path = f"/drop/{flow['id']}"

        def single(loader: Loader, step: int) -> None:
            loader.send("POST", path, {"elems": elems(step)})

        def bulk(loader: Loader, step: int) -> None:
            loader.send("POST", path, [{"elems": elems(step + n)} for n in range(BULK_DROPS)])

        figures = measure("flowkit", loader, single, bulk)
        with server.connect() as api:
            added = sum(api.statistics.flow_drop_added(flow["id"]))
            tracked = sum(api.statistics.flow_drop_added(hot["id"]))
            print(f"  (flowkit counted {added:,} drops, {tracked:,} of them tracked so far)")
    return figures


def kinto_figures(database: str) -> dict[str, float]:
    """Kinto, with a schema on the collection."""
    with kinto(database) as (url, headers):
        loader = Loader(url, headers)
        loader.send("PUT", "/buckets/bench", {"data": {}})
        schema = {"type": "object", "required": ["temp"]}
        loader.send("PUT", "/buckets/bench/collections/f", {"data": {"schema": schema}})
        path = "/buckets/bench/collections/f/records"

        def single(loader: Loader, step: int) -> None:
            loader.send("POST", path, {"data": elems(step)})

        def bulk(loader: Loader, step: int) -> None:
            requests = [
                {"method": "POST", "path": path, "body": {"data": elems(step + n)}}
                for n in range(BULK_DROPS)
            ]
            loader.send("POST", "/batch", {"requests": requests})

        return measure("Kinto", loader, single, bulk)


def parse_figures(database: str) -> dict[str, float]:
    """Parse Server, single writes only: its /batch answers 500 in version 9.10."""
    with parse_server(database) as (url, headers):
        loader = Loader(url, headers)

        def single(loader: Loader, step: int) -> None:
            loader.send("POST", "/classes/Drop", elems(step))

        return singles("Parse Server", loader, single)


if __name__ == "__main__":
    print(f"Python {sys.version.split()[0]}; loader and servers share the machine")
    figures = flowkit_figures()
    for peer in (kinto_figures, parse_figures):
        with ExitStack() as stack:
            try:
                figures |= peer(stack.enter_context(postgresql()))
            except Absent as error:
                print(f"  {peer.__name__.partition('_')[0]} was not measured: {error}")
    show(figures, "drops/s")
