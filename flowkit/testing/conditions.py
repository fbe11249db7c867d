"""What a fault proxy does to the bytes that pass in one direction, and what it has done so far.

Nothing here touches a socket: these are the settings of ``FaultProxy.set`` and its counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, TypedDict

from flowkit.errors import UsageError

__all__ = [
    "DIRECTIONS",
    "HEALTHY",
    "Counts",
    "Direction",
    "FaultSettings",
    "Faults",
    "Tally",
    "Toward",
    "directions",
    "read_changes",
]

Direction = Literal["up", "down"]
"""Where the bytes go: ``up`` to the target, ``down`` to the client."""

Toward = Literal["up", "down", "both"]

DIRECTIONS: tuple[Direction, ...] = ("up", "down")


class FaultSettings(TypedDict, total=False):
    """The keywords of ``FaultProxy.set``; each may be left out and then stays as it is.

    Attributes:
        latency_s: how much later everything arrives, in seconds.
        jitter_s: up to so many seconds more, drawn anew for each piece; the order stays.
        bandwidth_bytes_per_s: most bytes per second of one connection; None for no bound.
        slice_bytes: what passes is cut into pieces of so many bytes; None cuts nothing.
        stall: hold everything back and stop reading: True until told otherwise, or for a number
            of seconds from now. Nothing is lost.
        stall_after_bytes: begin to stall after so many bytes, in the middle of a message perhaps;
            counted as for ``reset_after_bytes``. ``stall=False`` ends it.
        black_hole: swallow everything, ends of connections too. A connection that has lost a byte
            never passes another in that direction: TCP does not deliver a stream with a hole.
        reset_after_bytes: reset a connection (RST to both ends) after so many bytes from now, or
            from its beginning if it opens later; 0 for at once, None for never.
        close_after_bytes: the same, but closed in good order (FIN to both ends).
    """

    latency_s: float
    jitter_s: float
    bandwidth_bytes_per_s: float | None
    slice_bytes: int | None
    stall: bool | float
    stall_after_bytes: int | None
    black_hole: bool
    reset_after_bytes: int | None
    close_after_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is in force in one direction; as it stands here, a healthy network.

    The members are those of ``FaultSettings``, but for ``stalled_until``: the time (of
    ``monotonic``) up to which everything is held back.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bandwidth_bytes_per_s: float | None = None
    slice_bytes: int | None = None
    stalled_until: float = 0.0
    stall_after_bytes: int | None = None
    black_hole: bool = False
    reset_after_bytes: int | None = None
    close_after_bytes: int | None = None

    def members(self) -> dict[str, Any]:
        """All of them, by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def __str__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.members().items() if value]
        return ", ".join(shown) or "healthy"


HEALTHY: FaultSettings = {
    "latency_s": 0.0,
    "jitter_s": 0.0,
    "bandwidth_bytes_per_s": None,
    "slice_bytes": None,
    "stall": False,
    "stall_after_bytes": None,
    "black_hole": False,
    "reset_after_bytes": None,
    "close_after_bytes": None,
}
"""The values that take each fault off."""

_LEAST = {
    "latency_s": 0.0,
    "jitter_s": 0.0,
    "bandwidth_bytes_per_s": 1,
    "slice_bytes": 1,
    "stall": 0.0,
    "stall_after_bytes": 0,
    "reset_after_bytes": 0,
    "close_after_bytes": 0,
}
_OPTIONAL = tuple(name for name, value in HEALTHY.items() if value is None)
_SWITCHES = ("stall", "black_hole")


def read_changes(changes: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Members of ``Faults``, from the keywords that a user gave.

    Args:
        changes: names and values of ``FaultSettings``.
        now: the time of ``monotonic``, from which a stall is counted.

    Raises:
        UsageError: an unknown name, or a value out of range.
    """
    read: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in FaultSettings.__annotations__:
            known = ", ".join(FaultSettings.__annotations__)
            raise UsageError(f"{name!r} is no fault", hint=f"there are: {known}")
        if not _can_be(name, value):
            hint = f"give a number from {_LEAST[name]} on" if name in _LEAST else "True or False"
            raise UsageError(f"{name}={value!r} cannot be", hint=hint)
        if name == "stall":
            read["stalled_until"] = _until(value, now)
        else:
            read[name] = value
    return read


def _can_be(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return name in _SWITCHES
    if value is None:
        return name in _OPTIONAL
    return name in _LEAST and isinstance(value, int | float) and value >= _LEAST[name]


def _until(stall: bool | float, now: float) -> float:
    if isinstance(stall, bool):
        return math.inf if stall else 0.0
    return now + stall


def directions(named: str) -> tuple[Direction, ...]:
    """The directions that *named* means: ``up``, ``down`` or ``both``.

    Raises:
        UsageError: it is none of these.
    """
    if named == "both":
        return DIRECTIONS
    for direction in DIRECTIONS:
        if direction == named:
            return (direction,)
    raise UsageError(f"{named!r} is no direction", hint="there are: up, down, both")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a proxy had done at one moment.

    Attributes:
        connections: accepted so far.
        open: of these, not ended yet.
        bytes_up, bytes_down: passed on to the target, to the client; what has been received
            there is counted, and so is a piece that is being written.
        swallowed_up, swallowed_down: bytes taken and dropped.
        faults: how often each fault has acted, by its name; a fault that changes how pieces
            travel is counted once per piece, one that ends connections once per connection.
    """

    connections: int
    open: int
    bytes_up: int
    bytes_down: int
    swallowed_up: int
    swallowed_down: int
    faults: Mapping[str, int]


@dataclass(slots=True)
class Tally:
    """The running count behind ``Counts``; changed in the proxy's loop only."""

    connections: int = 0
    open: int = 0
    passed: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 0))
    swallowed: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 0))
    faults: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counts:
        """As it stands now."""
        return Counts(
            self.connections,
            self.open,
            self.passed["up"],
            self.passed["down"],
            self.swallowed["up"],
            self.swallowed["down"],
            MappingProxyType(dict(self.faults)),
        )
