"""One connection through a fault proxy: two lanes, in each one who takes and one who passes on.

Rules:

* Everything here runs in the loop of the proxy. What does not wait is one uninterrupted step.
* Taking and passing are apart, so that latency does not bound what passes per second.
* A lane holds at most ``limits.fault_proxy_held_bytes_max`` and then takes no more: the sender
  feels a full window, as behind any slow network.
* A lane that has dropped a byte is silent for ever. An end of a connection travels through the
  lane as its last piece, so that it is late, held back or swallowed as bytes are.
"""

from __future__ import annotations

import random
import socket as plain_socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from flowkit import limits
from flowkit.green import Signal, monotonic, sleep
from flowkit.testing.conditions import DIRECTIONS, Direction, Faults, Tally

__all__ = ["Link", "abort"]

_TAKE_BYTES = 65_536
_TICK_S = 0.02
"""A bandwidth is kept in steps of this length: short enough to look smooth."""
_SLICE_PAUSE_S = 0.0002
"""Between two slices, so that a reader who is awake sees them apart."""

_CUTS = ("reset_after_bytes", "close_after_bytes", "stall_after_bytes")
_NEVER = float("inf")
_End = Literal["fin", "rst"]


def abort(connected: Any) -> None:
    """Close a connection with a reset (RST), whatever is still on its way."""
    with suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        connected.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, linger)
    connected.close()


class _Lane:
    """One direction of a link: takes from *source*, passes to *sink*."""

    def __init__(self, link: Link, direction: Direction, source: Any, sink: Any) -> None:
        self.direction: Direction = direction
        self.faults = Faults()
        self.is_silent = False
        self.is_over = False
        self._link = link
        self._source, self._sink = source, sink
        self._dice = random.Random(f"{link.seed}/{link.number}/{direction}")  # noqa: S311 - jitter
        self._pieces: deque[tuple[float, bytes | _End]] = deque()
        self._held_bytes = 0
        self._last_due = 0.0
        self._free_at = 0.0
        self._cuts: dict[str, int | None] = dict.fromkeys(_CUTS)
        self._woken = Signal()
        self._room = Signal()

    def change(self, changes: dict[str, Any]) -> None:
        """Take new settings; the bytes of those that count bytes are counted from now."""
        self.faults = replace(self.faults, **changes)
        for name in self._cuts.keys() & changes.keys():
            self._cuts[name] = changes[name]
        self._cut_if_due()
        self.wake()

    def wake(self) -> None:
        """Let its greenlets look again at what has changed."""
        self._woken.set()
        self._room.set()

    def take(self) -> None:
        """Read from the source until it ends (a greenlet)."""
        piece: bytes | _End = b""
        while piece not in ("fin", "rst"):
            while self._held_bytes >= limits.fault_proxy_held_bytes_max and not self.is_over:
                self._room.clear()
                self._room.wait()
            if self.is_over:
                return
            try:
                piece = self._source.recv(_TAKE_BYTES) or "fin"
            except OSError:
                piece = "rst"
            self._pieces.append((self._due(), piece))
            self._held_bytes += len(piece)
            self._woken.set()

    def _due(self) -> float:
        """When what was taken now is to be passed on."""
        faults = self.faults
        due = monotonic() + faults.latency_s
        if faults.jitter_s:
            due += self._dice.uniform(0, faults.jitter_s)
        self._last_due = max(self._last_due, due)
        return self._last_due

    def pass_on(self) -> None:
        """Hand what was taken to the sink, when it is due and as the faults say (a greenlet)."""
        while not self.is_over:
            if not self._pieces:
                self._sleep_until(_NEVER)
                continue
            due, piece = self._pieces[0]
            if not self._wait_for_leave(due):
                return
            self._pieces.popleft()
            if isinstance(piece, str):
                self._pass_end(piece)
                return
            self._pass_bytes(piece)
            self._held_bytes -= len(piece)
            self._room.set()

    def _wait_for_leave(self, due: float) -> bool:
        """Wait until *due*, and for the end of a stall; False if the lane is over."""
        if due > monotonic():
            self._count("latency_s")
        stalled = False
        while not self.is_over:
            stalled_until = 0.0 if self.is_silent else self.faults.stalled_until
            until = max(due, stalled_until)
            if until <= monotonic():
                return True
            if stalled_until > monotonic() and not stalled:
                stalled = True
                self._count("stall")
            self._sleep_until(until)
        return False

    def _sleep_until(self, when: float) -> None:
        self._woken.clear()
        self._woken.wait(None if when == _NEVER else max(0.0, when - monotonic()))

    def _pass_bytes(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left and not self.is_over:
            if not self._wait_for_leave(self._free_at):
                return
            part = left[: self._part_bytes(len(left))]
            left = left[len(part) :]
            if self._swallows():
                self._link.tally.swallowed[self.direction] += len(part)
            elif not self._send(part):
                return
            self._pay(len(part))
            if left and self.faults.slice_bytes:
                sleep(_SLICE_PAUSE_S)

    def _part_bytes(self, size: int) -> int:
        """How many of *size* bytes go in one step."""
        faults = self.faults
        if faults.slice_bytes and faults.slice_bytes < size:
            self._count("slice_bytes")
            size = faults.slice_bytes
        if faults.bandwidth_bytes_per_s:
            self._count("bandwidth_bytes_per_s")
            size = min(size, max(1, int(faults.bandwidth_bytes_per_s * _TICK_S)))
        for left in self._cuts.values():
            size = size if left is None else min(size, max(1, left))
        return size

    def _pay(self, size: int) -> None:
        """After *size* bytes: when the next may go, and whether the connection is to be cut."""
        if rate := self.faults.bandwidth_bytes_per_s:
            self._free_at = max(self._free_at, monotonic() - _TICK_S) + size / rate
        for name, left in self._cuts.items():
            if left is not None:
                self._cuts[name] = max(0, left - size)
        self._cut_if_due()

    def _cut_if_due(self) -> None:
        if self._cuts["reset_after_bytes"] == 0:
            self._link.reset("reset_after_bytes")
        elif self._cuts["close_after_bytes"] == 0:
            self._cuts["close_after_bytes"] = None
            self._link.close("close_after_bytes")
        elif self._cuts["stall_after_bytes"] == 0:
            self._cuts["stall_after_bytes"] = None
            self.faults = replace(self.faults, stalled_until=_NEVER)
            self._count("stall_after_bytes")

    def _swallows(self) -> bool:
        if self.faults.black_hole:
            self._count("black_hole")
            self.is_silent = True
        return self.is_silent

    def _send(self, part: memoryview) -> bool:
        # Counted first: whoever has got a byte, in another thread, finds it counted.
        self._link.tally.passed[self.direction] += len(part)
        try:
            self._sink.sendall(part)
        except OSError:
            self._link.tally.passed[self.direction] -= len(part)
            self._sink_is_gone()
            return not self.is_over
        return True

    def _sink_is_gone(self) -> None:
        """The word of it would travel against this lane, and is swallowed where that one is."""
        if self._link.against(self.direction).swallows_now():
            self.is_silent = True
        else:
            self._link.reset(None)

    def swallows_now(self) -> bool:
        """Whether an end that came now would be dropped."""
        return self.is_silent or self.faults.black_hole

    def _pass_end(self, end: _End) -> None:
        if self._swallows():
            self.is_over = True
            self._link.end_if_over()
        elif end == "rst":
            self._link.reset(None)
        else:
            with suppress(OSError):
                self._sink.shutdown(plain_socket.SHUT_WR)
            self.is_over = True
            self._link.end_if_over()

    def _count(self, fault: str) -> None:
        self._link.tally.faults[fault] += 1


class Link:
    """One connection: the client's end, the target's end and the two lanes between them.

    Args:
        ends: the sockets of the client and of the target, both of the loop.
        number: the how-manieth connection of its proxy it is, from 1.
        seed: of the jitter, together with *number*.
        tally: where to count.
        on_end: called once, when the link is over.
    """

    def __init__(
        self,
        ends: tuple[Any, Any],
        number: int,
        seed: object,
        *,
        tally: Tally,
        on_end: Callable[[Link], object],
    ) -> None:
        self.number, self.seed, self.tally = number, seed, tally
        self._client, self._target = ends
        self._on_end: Callable[[Link], object] | None = on_end
        self._is_parted = False  # closed or half open: what is left of it passes nothing
        self._lanes: dict[Direction, _Lane] = {
            "up": _Lane(self, "up", self._client, self._target),
            "down": _Lane(self, "down", self._target, self._client),
        }

    def work(self) -> list[Callable[[], None]]:
        """The functions that are to run, each in a greenlet of its own."""
        lanes = self._lanes.values()
        return [lane.take for lane in lanes] + [lane.pass_on for lane in lanes]

    def against(self, direction: Direction) -> _Lane:
        """The lane of the other direction."""
        return self._lanes["down" if direction == "up" else "up"]

    def change(self, direction: Direction, changes: dict[str, Any]) -> None:
        """Take new settings for one direction."""
        if self._on_end is not None:
            self._lanes[direction].change(changes)

    def reset(self, fault: str | None = "reset") -> None:
        """End it with an RST to both ends; *fault* is what it counts as, None for no fault."""
        if self._on_end is not None:
            self._count(fault)
            self._finish(abort)

    def close(self, fault: str | None = "close") -> None:
        """End it with a FIN to both ends; what they still send is dropped until they end, too."""
        if self._on_end is None or self._is_parted:
            return
        self._is_parted = True
        self._count(fault)
        for direction, sink in zip(DIRECTIONS, (self._target, self._client), strict=True):
            self._lanes[direction].is_silent = True
            self._lanes[direction].wake()
            with suppress(OSError):
                sink.shutdown(plain_socket.SHUT_WR)

    def half_open(self, direction: Direction) -> None:
        """Close the end to which *direction* leads; the other end hears nothing of it, ever."""
        if self._on_end is None or self._is_parted:
            return
        self._is_parted = True
        self._count("half_open")
        for lane in self._lanes.values():
            lane.is_silent = True
        (self._target if direction == "up" else self._client).close()
        for lane in self._lanes.values():
            lane.wake()

    def cut(self) -> None:
        """End it without ceremony: the proxy is being closed."""
        if self._on_end is not None:
            self._finish(lambda connected: connected.close())

    def end_if_over(self) -> None:
        """Close both ends if nothing can pass any more in either direction."""
        if all(lane.is_over for lane in self._lanes.values()):
            self.cut()

    def _finish(self, close: Callable[[Any], object]) -> None:
        on_end, self._on_end = self._on_end, None
        for lane in self._lanes.values():
            lane.is_over = True
        close(self._client)
        close(self._target)
        for lane in self._lanes.values():
            lane.wake()
        if on_end is not None:
            on_end(self)

    def _count(self, fault: str | None) -> None:
        if fault is not None:
            self.tally.faults[fault] += 1
