"""A TCP proxy that behaves badly on request: for tests of whatever talks over a network.

::

    with FaultProxy(server.url) as proxy:
        client = connect(proxy.url)
        proxy.set("down", latency_s=0.2, jitter_s=0.1)
        proxy.set(stall=2.0)              # both directions, nothing lost
        proxy.reset()                     # all connections, now
        proxy.heal()
        with proxy.disturb(seed=7):       # ten seconds of faults, the same each time
            ...

It works on a native thread with a loop of its own, so it goes on whatever the test does, in a
process that gevent has patched as in any other. Every method may be called from any thread or
greenlet, and what it asks for is in force when it returns.
"""

from __future__ import annotations

import _socket
import socket as plain_socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, Self, Unpack
from urllib.parse import urlsplit

from flowkit import limits
from flowkit.errors import FlowKitError, UsageError
from flowkit.green import Deadline, Loop, monotonic, sockets
from flowkit.testing.conditions import (
    DIRECTIONS,
    Counts,
    Direction,
    Faults,
    FaultSettings,
    Tally,
    Toward,
    directions,
    read_changes,
)
from flowkit.testing.disturbance import Disturbance
from flowkit.testing.links import Link, abort
from flowkit.testing.schedules import KINDS, plan

__all__ = ["Disturbance", "FaultProxy"]

_BACKLOG = 128
_FILLINGS_S = (1.0, 0.02)
"""Two connections fill a queue of length 0. The first gets in soon, the second one never does."""

On = Literal["all", "open", "new"]


class FaultProxy:
    """A port that is forwarded to a target, well or badly.

    Args:
        target: ``"http://host:port"``, ``"host:port"`` or a pair of both. It need not answer yet;
            a connection whose target cannot be reached is reset.
        host, port: where to listen; port 0 takes a free one.
        seed: of the jitter.

    Attributes:
        host, port: where it listens. The port stays its own while it refuses, too.
        url: the target's URL with this host and port in it; without a scheme, ``host:port``.

    Raises:
        UsageError: *target* names no port.
        OSError: the address cannot be had.
    """

    def __init__(
        self,
        target: str | tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int | str = 0,
    ) -> None:
        scheme, self._target = _read_target(target)
        self._seed = seed
        self._began = monotonic()
        self._tally = Tally()
        self._faults: dict[Direction, Faults] = dict.fromkeys(DIRECTIONS, Faults())
        self._links: set[Link] = set()
        self._resets = 0
        self._lines: deque[str] = deque(maxlen=limits.fault_proxy_log_lines_max)
        self._is_closed = False
        self._fillers: list[Any] = []
        self._listener: Any = None
        self._door = "closed"
        self._disturbance: Disturbance | None = None
        # Bound and never listening, it keeps the port: others are refused, not let in.
        self._holder = _bound(host, port)
        self.host, self.port = self._holder.getsockname()[:2]
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"{scheme}{shown}:{self.port}"
        self._loop = Loop("flowkit-faults")
        self.accept()

    # What passes

    def set(
        self, direction: Toward = "both", *, on: On = "all", **changes: Unpack[FaultSettings]
    ) -> None:
        """Set faults; those that are not named stay as they are.

        Args:
            direction: ``up`` (to the target), ``down`` (to the client) or ``both``.
            on: ``open`` connections only, ``new`` ones only, or ``all``.
            changes: the faults and their values, see ``FaultSettings``.

        Raises:
            UsageError: an unknown fault or direction, a value out of range, a closed proxy.
        """
        read = read_changes(changes, monotonic())
        if on not in ("all", "open", "new"):
            raise UsageError(f"on={on!r} cannot be", hint="there are: all, open, new")
        words = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        self._do(f"{direction}: {words} (on {on})", self._set, directions(direction), on, read)

    def _set(self, wanted: tuple[Direction, ...], on: On, read: dict[str, Any]) -> None:
        for direction in wanted:
            if on != "open":
                self._faults[direction] = replace(self._faults[direction], **read)
            for link in list(self._links) if on != "new" else ():
                link.change(direction, read)

    def heal(self) -> None:
        """Take every fault off and accept again; what was cut or has lost bytes stays so."""
        self._do("heal", self._heal)

    def _heal(self) -> None:
        self._set(DIRECTIONS, "all", Faults().members())
        self._open_door("accept")

    # Cuts of the connections that are open

    def reset(self) -> int:
        """Reset (RST) both ends of every open connection; how many there were."""
        return self._cut_all("reset", Link.reset)

    def close_connections(self) -> int:
        """Close every open connection in good order (FIN); how many there were."""
        return self._cut_all("close", Link.close)

    def half_open(self, direction: Direction) -> int:
        """Close one end of every open connection, and let the other one believe that it lives.

        What the other end sends is swallowed, and it is never sent anything, until it ends, too.

        Args:
            direction: ``up`` closes the target's end, ``down`` the client's.

        Returns:
            how many connections there were.

        Raises:
            UsageError: another direction; both ends closed would be a close.
        """
        if direction not in DIRECTIONS:
            raise UsageError(f"{direction!r} is not one direction", hint="there are: up, down")
        return self._cut_all(f"half_open {direction}", lambda link: link.half_open(direction))

    def _cut_all(self, words: str, cut: Callable[[Link], object]) -> int:
        def cut_each() -> int:
            self._resets += 1
            links = list(self._links)
            for link in links:
                cut(link)
            return len(links)

        count: int = self._do(words, cut_each)
        return count

    # The door

    def accept(self) -> None:
        """Let new connections in, which is how a proxy begins."""
        self._do("accept", self._open_door, "accept")

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._do("refuse", self._open_door, "refuse")

    def ignore(self) -> None:
        """Answer no attempt to connect, as a machine that is switched off; open ones go on."""
        self._do("ignore", self._open_door, "ignore")

    def _open_door(self, door: str) -> None:
        if door == self._door:
            return
        self._door = door
        for one in (self._listener, *self._fillers):
            if one is not None:
                sockets.shut(one)  # now; gevent closes at the next turn of the loop
                one.close()
        self._listener, self._fillers = None, []
        if door == "accept":
            self._listener = self._listening(_BACKLOG)
            self._loop.spawn(self._let_in, self._listener)
        else:
            self._tally.faults[door] += 1
        if door == "ignore":
            self._listener = self._listening(0)
            self._fillers = [self._filler(wait_s) for wait_s in _FILLINGS_S]

    def _listening(self, backlog: int) -> Any:
        made = _bound(self.host, self.port)
        made.listen(backlog)
        return sockets.adopt(made)

    def _filler(self, wait_s: float) -> Any:
        made = _socket.socket(self._holder.family, plain_socket.SOCK_STREAM)
        made.setblocking(False)
        with suppress(OSError):  # BlockingIOError: it is under way, and more is not wanted
            made.connect((self.host, self.port))
        adopted = sockets.adopt(made)
        sockets.wait_writable(adopted, wait_s)
        return adopted

    def _let_in(self, listener: Any) -> None:
        with suppress(OSError):  # the door was shut
            while True:
                connected, _ = listener.accept()
                self._loop.spawn(self._begin, connected)

    def _begin(self, client: Any) -> None:
        """Join a new connection with one to the target."""
        self._tally.connections += 1
        number, resets = self._tally.connections, self._resets
        try:
            client.setsockopt(plain_socket.IPPROTO_TCP, plain_socket.TCP_NODELAY, 1)
            target = sockets.connect(
                *self._target, Deadline(limits.fault_proxy_connect_timeout_s, "the target")
            )
        except (FlowKitError, OSError) as error:
            self._write(f"connection {number}: {error}")
            abort(client)
            return
        if self._is_closed or resets != self._resets:
            abort(client)
            abort(target)
            return
        link = Link((client, target), number, self._seed, tally=self._tally, on_end=self._ended)
        self._links.add(link)
        self._tally.open += 1
        for direction in DIRECTIONS:
            link.change(direction, self._faults[direction].members())
        for work in link.work():
            self._loop.spawn(work)

    def _ended(self, link: Link) -> None:
        self._links.discard(link)
        self._tally.open -= 1

    # A seeded schedule

    def disturb(
        self,
        seed: int | str,
        duration_s: float = 10.0,
        *,
        kinds: Sequence[str] = KINDS,
        every_s: tuple[float, float] = (0.1, 1.0),
        lasting_s: tuple[float, float] = (0.1, 1.0),
    ) -> Disturbance:
        """Begin a schedule of faults drawn from *seed*; returns at once.

        Args:
            seed: any number or text; the same arguments mean the same schedule, everywhere.
            duration_s: seconds after which all is healthy again.
            kinds: what may be drawn: ``latency bandwidth slice stall black_hole reset_after
                close_after reset close half_open refuse ignore``.
            every_s: shortest and longest pause before each fault.
            lasting_s: shortest and longest time of one that lasts.

        Raises:
            UsageError: an unknown kind, a span that is none, a closed proxy.
        """
        drawn = plan(seed, duration_s, kinds=kinds, every_s=every_s, lasting_s=lasting_s)
        if self._is_closed:
            raise _closed()
        if self._disturbance is not None and not self._disturbance.is_over:
            raise UsageError(
                f"{self._disturbance!r} is still under way", hint="stop() it, or wait() for its end"
            )
        self._do(f"disturb: {drawn!r}", lambda: None)
        self._disturbance = Disturbance(self, drawn, self._loop)
        return self._disturbance

    # What there was

    @property
    def counts(self) -> Counts:
        """Connections, bytes and faults so far."""
        return self._tally.counts()

    @property
    def log(self) -> list[str]:
        """What was asked of it and when, in seconds from its beginning; the newest lines."""
        return list(self._lines)

    def _write(self, words: str) -> None:
        self._lines.append(f"{monotonic() - self._began:8.3f} s  {words}")

    def _do(self, words: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run a step in the loop and write it down."""
        if self._is_closed:
            raise _closed()

        def step() -> Any:
            self._write(words)
            return function(*args)

        return self._loop.call(step)

    def close(self) -> None:
        """Close the port and every connection, and end the thread. May be called twice."""
        if self._is_closed:
            return
        if self._disturbance is not None:
            self._disturbance.stop()
        self._is_closed = True
        self._loop.call(self._shut)
        self._loop.close()

    def _shut(self) -> None:
        for one in (self._listener, *self._fillers, self._holder):
            if one is not None:
                one.close()
        for link in list(self._links):
            link.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        host, port = self._target
        faults = "; ".join(f"{way}: {self._faults[way]}" for way in DIRECTIONS)
        door = "closed" if self._is_closed else self._door
        return f"<FaultProxy {self.host}:{self.port} to {host}:{port}, {door}; {faults}>"


def _closed() -> UsageError:
    return UsageError("this proxy is closed", hint="make a new one with FaultProxy()")


def _read_target(target: str | tuple[str, int]) -> tuple[str, tuple[str, int]]:
    """The beginning of a URL (empty if there was none), host and port."""
    scheme, divider, host, port = "", "", None, None
    if isinstance(target, str):
        scheme, divider, rest = target.rpartition("://")
        with suppress(ValueError):
            parts = urlsplit(f"//{rest}")
            host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(scheme)
    elif isinstance(target, tuple) and len(target) >= 2 and isinstance(target[1], int):
        host, port = target[:2]  # an address of IPv6 has four members
    if not host or not port:
        raise UsageError(f"the target {target!r} names no port", hint="give host:port, or a URL")
    return scheme + divider, (host, port)


def _bound(host: str, port: int) -> Any:
    """The system's own socket whoever has patched, bound so that others of a proxy may be, too."""
    family = plain_socket.AF_INET6 if ":" in host else plain_socket.AF_INET
    made = _socket.socket(family, plain_socket.SOCK_STREAM)
    try:
        made.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_REUSEADDR, 1)
        made.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made
