"""Publishers of ``bench_subscribe.py``: one connection each to flowkit, a broadcaster, Redis.

Every peer is asked in the same way: batches of messages from one publisher, or single messages
from ``PUBLISHERS`` side by side; at most ``UNDER_WAY`` batches, or as many messages, have not
reached all receivers. So nobody's buffers decide, and nobody is overrun. flowkit stores what it
gets on disk first; the others keep nothing.
"""

import http.client
import itertools
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from peers import Absent, free_port, running, wait_until
from receivers import MARK, Receivers, masked, upgrade

BATCH = 100
UNDER_WAY = 3
PUBLISHERS = 8
SECONDS = 4.0
CHANNEL = "bench"


def elems(step: int) -> dict:
    """What one drop holds: some numbers, a text, and the byte that the receivers count."""
    return {
        "temp": step % 100,
        "name": f"sensor-{step % 1000:03}",
        "mark": MARK.decode(),
        "n": step,
    }


def pushed(step: int) -> str:
    """The message that flowkit pushes for a drop, as other peers are given it."""
    flow, drop = "f5a2c11e09b1e4d7a6c3f0010", f"d5a2c12009b1e4d7a{step:08x}"
    value = {
        "id": drop,
        "flowId": flow,
        "path": "/bench/f",
        "creationDate": 1_512_837_376_123,
        "version": 0,
        "elems": elems(step),
    }
    message = {"type": "message", "resource": flow, "value": value}
    return json.dumps(message, separators=(",", ":"))


Publish = Callable[[int, int], None]


@dataclass(frozen=True)
class Peer:
    """A server that is running.

    Attributes:
        kind: how receivers subscribe.
        port: where.
        publisher: makes a function that sends so many messages at once, numbered from a step on,
            and waits for the answer if the peer gives one.
        options: for the receivers.
    """

    kind: str
    port: int
    publisher: Callable[[], Publish]
    options: dict


def delivered(peer: Peer, subscribers: int, *, stalled: int = 0, size: int = BATCH) -> float:
    """Messages per second that arrive at all subscribers together, over some seconds.

    Args:
        peer: whose server.
        subscribers: how many read.
        stalled: how many more do not.
        size: messages published at once.
    """
    batch = size * subscribers
    under_way = UNDER_WAY * BATCH // size
    with Receivers(peer.kind, peer.port, subscribers, peer.options, stalled) as receivers:
        publishers = [peer.publisher() for _ in range(1 if size > 1 else PUBLISHERS)]
        publishers[0](0, size)
        receivers.await_messages(batch)
        numbers = itertools.count(1)
        start = time.perf_counter()

        def work(publish: Publish) -> int:
            number = 0
            while time.perf_counter() - start < SECONDS:
                number = next(numbers)
                publish(number * size, size)
                receivers.await_messages((number + 1 - under_way) * batch)
            return number

        with ThreadPoolExecutor() as pool:
            sent = 1 + max(pool.map(work, publishers))
        receivers.await_messages(sent * batch)
        spent = time.perf_counter() - start
        if receivers.received != sent * batch:
            raise AssertionError(f"{receivers.received:,} came of {sent * batch:,}")
        return (sent - 1) * batch / spent


@contextmanager
def broadcaster(*arguments: str) -> Iterator[Peer]:
    """The library ``websockets``, in a process of its own."""
    script = str(Path(__file__).with_name("broadcast_server.py"))
    process = subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE)
    try:
        port = int(process.stdout.readline())

        def publisher() -> Publish:
            connected = upgrade(port, "/publish")
            return lambda step, size: connected.sendall(
                b"".join(masked(pushed(step + n)) for n in range(size))
            )

        yield Peer("ws", port, publisher, {"path": "/"})
    finally:
        process.kill()
        process.wait()


@contextmanager
def redis() -> Iterator[Peer]:
    """A Redis server that keeps nothing, published to by the package ``redis``.

    Raises:
        Absent: Redis or its package is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise Absent("there is no redis-server (Debian's package redis-server)")
    try:
        from redis import Redis
    except ImportError as error:
        raise Absent("the package redis is not installed") from error
    port = free_port()
    command = [program, "--port", str(port), "--save", "", "--appendonly", "no"]
    with running([*command, "--bind", "127.0.0.1", "--daemonize", "no"], cwd="/tmp"):

        def answers() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_until(answers, "redis-server")
        with Redis(port=port) as client:

            def publish(step: int, size: int) -> None:
                pipeline = client.pipeline(transaction=False)
                for n in range(size):
                    pipeline.publish(CHANNEL, pushed(step + n))
                pipeline.execute()

            yield Peer("redis", port, lambda: publish, {"channel": CHANNEL})


def flowkit_peer(port: int, flow: str, headers: dict[str, str], subscribes: list[dict]) -> Peer:
    """A server of flowkit that runs already; *subscribes* are told to its receivers in turn."""
    sent = {**headers, "Content-Type": "application/json"}
    path = f"/v4.0/{headers['X-Auth-Account']}/drop/{flow}"

    def publisher() -> Publish:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def publish(step: int, size: int) -> None:
            drops = [{"elems": elems(step + n)} for n in range(size)]
            body = json.dumps(drops if size > 1 else drops[0]).encode()
            connection.request("POST", path, body, sent)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status not in (200, 201, 207):
                raise AssertionError(f"{answer.status} {text[:200]!r}")

        return publish

    texts = [json.dumps({"object": "drop", "type": "subscribe", **one}) for one in subscribes]
    return Peer("flowkit", port, publisher, {"headers": headers, "subscribes": texts})
