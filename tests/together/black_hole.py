"""How long each call takes when the network has become a black hole; run as a program.

Arguments: how to run the calls (``threads``, ``greenlets``, or ``patched``: threads of a process
that gevent has patched) and the time that each call is given, in seconds. Prints JSON: by kind of
hole and by call, the seconds it took and what it ended with.
"""

import sys

if __name__ == "__main__" and sys.argv[1] == "patched":
    from gevent import monkey

    monkey.patch_all()

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent

from flowkit import API
from flowkit.testing import FaultProxy, Platform

ROOM_S = 10.0


@dataclass(frozen=True)
class Place:
    """Where a call is made.

    Attributes:
        flow, drop: ids that are there.
        limit_s: what the call is given.
        is_open: whether the connection is made before the hole opens.
    """

    flow: str
    drop: str
    limit_s: float
    is_open: bool

    @property
    def soon(self) -> dict[str, float]:
        """The keyword that bounds an HTTP call."""
        return {"timeout": self.limit_s}


Call = Callable[[], object]


def verb(work: Callable[[API, Place], object]) -> Callable[[API, Place], Call]:
    """An HTTP call; its connection is made by a read."""

    def prepare(api: API, place: Place) -> Call:
        if place.is_open:
            api.flow.read(place.flow)
        return lambda: work(api, place)

    return prepare


def started(api: API) -> Any:
    """A runner that connects; what goes wrong with that is not said."""
    return api.websocket.connect(on_error=lambda *_: None).start()


def runner(work: Callable[[Any, Place], object]) -> Callable[[API, Place], Call]:
    """Something that a runner is asked; its WebSocket is open if that is possible."""

    def prepare(api: API, place: Place) -> Call:
        ws = started(api)
        if place.is_open:
            ws.wait_connected(ROOM_S)
        return lambda: work(ws, place)

    return prepare


def confirmed(subscribe: Callable[[API, Place], Any], work: Callable[[Any, Place], object]) -> Any:
    """Something that a subscription is asked, confirmed by a first drop if that is possible."""

    def prepare(api: API, place: Place) -> Call:
        subscription = subscribe(api, place)
        if place.is_open:
            subscription.next(ROOM_S)
        return lambda: work(subscription, place)

    return prepare


def subscribed(api: API, place: Place) -> Any:
    """A subscription that begins with the flow's last drop."""
    return api.drop(place.flow).subscribe("n >= 0", since="start", timeout_s=place.limit_s)


def asynchronous(api: API, place: Place) -> None:
    """Several calls side by side."""
    aside = api.async_()
    for answer in [aside.flow.read(place.flow, **place.soon) for _ in range(3)]:
        answer.get()


def large(place: Place) -> list[dict]:
    """More than the kernel takes at once."""
    return [{"elems": {"n": n, "text": "x" * 60_000}} for n in range(100)]


CALLS: dict[str, Callable[[API, Place], Call]] = {
    "create": verb(lambda api, place: api.flow.create({"path": "/test/b"}, **place.soon)),
    "create a drop": verb(
        lambda api, place: api.drop(place.flow).create({"elems": {"n": 1}}, **place.soon)
    ),
    "create much": verb(
        lambda api, place: api.drop(place.flow).create_many(large(place), **place.soon)
    ),
    "read": verb(lambda api, place: api.drop(place.flow).read(place.drop, **place.soon)),
    "find": verb(lambda api, place: api.drop(place.flow).find(filter="n > 0", **place.soon)),
    "update": verb(
        lambda api, place: api.flow.update({"id": place.flow, "capacity": 9}, **place.soon)
    ),
    "delete": verb(lambda api, place: api.drop(place.flow).delete(place.drop, **place.soon)),
    "async": verb(asynchronous),
    "lazy": verb(lambda api, place: str(api.lazy().flow.read(place.flow, **place.soon)["id"])),
    "wait_connected": lambda api, place: (
        lambda: (
            api.websocket.connect(on_error=lambda *_: None).start().wait_connected(place.limit_s)
        )
    ),
    "ws.create": runner(
        lambda ws, place: ws.create(
            "drop", {"elems": {"n": 2}}, flow=place.flow, timeout=place.limit_s
        )
    ),
    "ws.find": runner(
        lambda ws, place: ws.find("drop", place.drop, flow=place.flow, timeout=place.limit_s)
    ),
    "ws.close": runner(lambda ws, place: ws.close(timeout_s=place.limit_s)),
    "iteration": confirmed(subscribed, lambda subscription, place: list(subscription)),
    "next": confirmed(subscribed, lambda subscription, place: subscription.next(place.limit_s)),
    "subscription.close": confirmed(subscribed, lambda subscription, place: subscription.close()),
    "view": lambda api, place: (
        lambda: api.drop(place.flow).live("n >= 0").wait_ready(place.limit_s)
    ),
    "websocket.close": confirmed(
        lambda api, place: _Shared(api, subscribed(api, place)),
        lambda shared, place: shared.api.websocket.close(timeout_s=place.limit_s),
    ),
}


@dataclass(frozen=True)
class _Shared:
    """An API and a subscription on its shared runner."""

    api: API
    subscription: Any

    def next(self, timeout_s: float) -> object:
        """The next drop."""
        return self.subscription.next(timeout_s)


HOLES: dict[str, tuple[bool, Callable[[FaultProxy], object]]] = {
    "never answers": (False, lambda proxy: proxy.ignore()),
    "accepts and swallows": (False, lambda proxy: proxy.set(black_hole=True)),
    "accepts and never reads": (False, lambda proxy: proxy.set(stall=True)),
    "swallows once it is open": (True, lambda proxy: proxy.set(black_hole=True)),
    "vanishes without a word": (True, lambda proxy: _vanish(proxy)),
    "stalls in the middle": (True, lambda proxy: proxy.set("down", stall_after_bytes=5)),
}
"""Whether connections are open before, and how the hole opens."""


def _vanish(proxy: FaultProxy) -> None:
    proxy.half_open("up")
    proxy.ignore()


def at_once(jobs: list[Callable[[], object]], how: str) -> None:
    """Run all of them side by side."""
    if how == "greenlets":
        gevent.joinall([gevent.spawn(job) for job in jobs], raise_error=True)
        return
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measured(call: Call) -> tuple[float, str]:
    """Seconds that it took, and what it ended with."""
    began = time.monotonic()
    try:
        call()
    except Exception as error:  # noqa: BLE001 - what it is is the result
        return time.monotonic() - began, type(error).__name__
    return time.monotonic() - began, "ok"


def hole(kind: str, how: str, limit_s: float) -> dict[str, tuple[float, str]]:
    """What becomes of each call in this kind of hole."""
    is_open, begin = HOLES[kind]
    results: dict[str, tuple[float, str]] = {}
    with contextlib.ExitStack() as opened:
        platform = opened.enter_context(Platform())
        flow = platform.api.flow.create({"path": "/test/a"})["id"]
        drop = platform.api.drop(flow).create({"elems": {"n": 1}})["id"]
        proxy = opened.enter_context(FaultProxy(platform.url))
        place = Place(flow, drop, limit_s, is_open)
        apis = {
            name: API(
                platform.token, host=proxy.url, retries=0, timeout=ROOM_S if is_open else limit_s
            )
            for name in CALLS
        }
        if not is_open:
            begin(proxy)
        ready = {name: CALLS[name](api, place) for name, api in apis.items()}
        if is_open:
            begin(proxy)
            platform.api.drop(flow).create({"elems": {"n": 2}})

        def one(name: str) -> None:
            results[name] = measured(ready[name])

        at_once([lambda name=name: one(name) for name in CALLS], how)
        proxy.heal()
        proxy.reset()
        at_once([api.close for api in apis.values()], how)
    return results


if __name__ == "__main__":
    found = {kind: hole(kind, sys.argv[1], float(sys.argv[2])) for kind in HOLES}
    json.dump(found, sys.stdout)
