"""A gateway: one process takes the readings of several sensors and brings them to a platform.

Run it: ``python examples/gateway.py``. Each sensor is a stream of one outbox, one sender drains it
over a link that breaks. What does not fit into the bound is dropped, the oldest first, and counted.
"""

import logging
import sys
import tempfile
import threading
from pathlib import Path

from flowkit.device import HttpLink, Outbox, Sender
from flowkit.testing import FaultProxy, Platform

SENSORS = ("north", "south", "roof")


def read(outbox, path, name, numbers):
    """A sensor: it puts what it reads, and never waits for the network."""
    for number in numbers:
        outbox.put(name, {"path": path, "elems": {"sensor": name, "number": number}})


def read_all(outbox, path, numbers):
    """All sensors side by side, each on a thread of its own."""
    threads = [
        threading.Thread(target=read, args=(outbox, path, name, numbers)) for name in SENSORS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bridge(outbox, sender, path, proxy):
    """The network is there, it is not, and it is again."""
    read_all(outbox, path, range(20))
    print("queued with a good link:", sender.flush(10).count)

    proxy.refuse()
    proxy.reset()
    read_all(outbox, path, range(20, 70))
    waiting = outbox.pending
    print(f"queued with a broken link: {waiting.count} readings, {waiting.bytes // 1024} KiB")
    dropped = [report.facts for report in outbox.reports() if report.kind == "dropped"]
    print("dropped for room:", sum(facts["count"] for facts in dropped))

    proxy.heal()
    sender.wake()  # the network is known to be back: do not wait for the next try
    print("queued once it is mended:", sender.flush(10).count)


def play(platform, folder):
    """The platform, a link that can be broken, and the gateway between it and its sensors."""
    path = f"/{platform.account}/farm"
    flow = platform.api.flow.create({"path": path, "capacity": 1000})
    with (
        FaultProxy(platform.url) as proxy,
        Outbox(str(folder / "farm.db"), rows_max=120, when_full="drop oldest") as outbox,
        Sender(
            outbox,
            HttpLink(proxy.url, platform.account, platform.token.token),
            on_event=lambda word, _: print("link:", word, flush=True),
        ) as sender,
    ):
        bridge(outbox, sender, path, proxy)
    drops = platform.api.drop(flow["id"]).find(order="asc", limit=1000)
    for name in SENSORS:
        numbers = [d["elems"]["number"] for d in drops if d["elems"]["sensor"] == name]
        print(name, "in order:", numbers == sorted(set(numbers)), "the last:", numbers[-1])
    print("stored:", len(drops))


logging.basicConfig(stream=sys.stdout, format="log: %(message)s", level=logging.ERROR)
with Platform() as platform, tempfile.TemporaryDirectory() as made:
    play(platform, Path(made))
