"""The tour as ``flowkit demo`` shows it: start, load, ask, compose, find by path, what next."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from flowkit.client.transport import HttpTransport
from flowkit.demo import earthquakes, tour
from flowkit.demo.server import ENDING, DemoServer, demo_server
from flowkit.query import mem

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["run"]

ACCOUNT = "demo"
LATENCY_S = 0.02
SHOWN = 3

Say = Callable[[str], object]


def run(*, keep: bool = False, say: Say = print) -> None:
    """Start a server in a temporary folder, load the data, show the three jobs, stop.

    For the main thread only. Whatever ends it, Ctrl-C included, server and folder are gone then.

    Args:
        keep: leave the server running until Ctrl-C, and print lines for a Python prompt.
        say: gets every line.

    Raises:
        SystemExit: a signal ended it before its end, code 130.
    """
    with (
        _ended_by_signals(),
        tempfile.TemporaryDirectory(prefix="flowkit-demo-") as folder,
        demo_server(Path(folder), ACCOUNT) as server,
    ):
        say(f"A platform of your own answers at {server.url}, account {ACCOUNT!r}.\n")
        with server.connect() as api:
            _load(api, say)
            _show_look_ups(api, say)
            _show_find_by_path(api, say)
        _show_compositions(server, say)
        _say_what_next(server, say, keep=keep)
        if keep:
            _wait_for_signal()


def _load(api: API, say: Say) -> None:
    events = earthquakes.read_events()
    start = time.perf_counter()
    with tqdm(total=len(events), desc="Loading a week of earthquakes", unit=" events") as bar:
        flows = earthquakes.load(api, events=events, on_progress=bar.update)
    taken = time.perf_counter() - start
    say(f"{len(events)} events in {len(flows)} flows, all on disk, in {taken:.2f} s.\n")


def _show_look_ups(api: API, say: Say) -> None:
    say("1. Filter-heavy look-ups: a Python expression, run as SQL by the server.")
    for words, condition in tour.LOOK_UPS.items():
        events = tour.look_up(api, condition)
        say(f"\n   {words}: {len(events)}\n     {condition}")
        for event in events[:SHOWN]:
            say(f"       {_line(event)}")
    say("")


def _show_find_by_path(api: API, say: Say) -> None:
    path = earthquakes.flow_path(ACCOUNT, "hv")
    deepest = api.drop.find(mem.depth > 30, path=path, sort="depth", limit=SHOWN)
    say(f"2. A find by path: the deepest of {path}.")
    for event in deepest:
        say(f"       {event['elems']['depth']:>6} km  {_line(event)}")
    say("")


def _show_compositions(server: DemoServer, say: Say) -> None:
    say(
        f"3. A composition of dependent queries: the flows, the {tour.STRONGEST} strongest events"
        f" of each,\n   the neighbours of those within {tour.NEAR_KM} km. Every request waits"
        f" {LATENCY_S * 1000:.0f} ms more than it has to,\n   as if the server were far away.\n"
    )
    ways: dict[str, Callable[[API], tour.Neighbours]] = {
        "one by one": tour.compose_sequential,
        "async_()": tour.compose_async,
        "lazy()": tour.compose_lazy,
    }
    results, first = [], 0.0
    for name, compose in ways.items():
        distant = tour.SlowTransport(HttpTransport(server.url), LATENCY_S)
        with server.connect(distant) as api:
            start = time.perf_counter()
            results.append(compose(api))
            taken = time.perf_counter() - start
        first = first or taken
        say(f"     {name:<11} {taken:6.2f} s   {first / taken:4.1f} times as fast")
    if any(result != results[0] for result in results):
        raise AssertionError("the three ways did not find the same")
    near = results[0]
    crowd = max(near, key=lambda name: len(near[name]))
    say(f"\n   All three found the same; most neighbours: {crowd} with {len(near[crowd])}.\n")


def _say_what_next(server: DemoServer, say: Say, *, keep: bool) -> None:
    if keep:
        account, secret = server.credentials
        say("The server keeps running until you press Ctrl-C. In a Python prompt:\n")
        say("  from flowkit import API, Token, mem")
        say(f"  api = API(Token({account!r}, {secret!r}), host={server.url!r})")
        say(f"  api.drop.find(mem.mag > 4, path='/{ACCOUNT}/quakes/ak')\n")
        return
    say("What next:")
    say("  flowkit demo --keep        the same, and the server stays for your own queries")
    say("  flowkit serve              a platform that keeps its data")
    say("  examples/*.py              these three jobs as small scripts")
    say("  docs/tutorial/index.rst    first flow, first filter, first parallel query")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the signals that end a program end this block in order; a second one cannot hurry it.

    SystemExit instead of KeyboardInterrupt, because of that one gevent prints a report.
    """

    def end(_number: int, _frame: Any) -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(130)

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_signal() -> None:
    with suppress(SystemExit):
        while True:  # not for ever: a signal just before the sleep does not end it
            time.sleep(1)


def _line(event: dict[str, Any]) -> str:
    elems = event["elems"]
    return f"M {elems['mag'] or 0:>4}  {elems['place']} ({elems['type']})"
