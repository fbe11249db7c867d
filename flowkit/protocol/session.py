"""A subscription session as a table: the states of both ends, what happens, what is done then.

Rules of this module: everything that changes the state of a session stands in ``TABLE``, and every
time that matters in ``TIMERS``. It knows no socket and no clock: the shells
(``client/live/connection.py`` and ``server/live/sessions.py``) tell it what happened and when, and
do what it answers. The docs draw their diagram from these two tables.

Two ends, one life: a session is **new** until a connection carries it, **open** while one does,
**lost** after that connection broke, and **closed** for good. The server waits for a lost session
to come back; the client makes a new one instead and subscribes again from its places.

Source: protocol 9.1 (session), 9.5 (heartbeat), 9.6 (closing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from flowkit import limits

__all__ = [
    "FAULT",
    "GOING_AWAY",
    "NORMAL",
    "POLICY",
    "TABLE",
    "TIMERS",
    "TOO_LARGE",
    "TOO_SLOW",
    "Act",
    "Event",
    "Session",
    "Side",
    "State",
    "Timer",
]

NORMAL = 1000
GOING_AWAY = 1001
POLICY = 1008
TOO_LARGE = 1009
FAULT = 1011
TOO_SLOW = 1013
"""The close codes: an end in order; idle, or the server stops; the credential was revoked or has
expired; a frame over the bound; a fault; the reader is too slow."""


class Side(Enum):
    """Which end of the session this is."""

    CLIENT = "client"
    SERVER = "server"


class State(Enum):
    """Where a session stands."""

    NEW = "new"
    OPEN = "open"
    LOST = "lost"
    CLOSED = "closed"


class Event(Enum):
    """What happens to a session."""

    CONNECTED = "connected"
    HEARD = "heard"
    BROKEN = "broken"
    ENDED = "ended"
    PULSE_DUE = "pulse due"
    SILENT = "silent"
    EXPIRED = "expired"
    RETRY = "retry"


class Act(Enum):
    """What an end does when something happens."""

    REPLACE = "drop the older connection"
    RESUME = "send what waits"
    SUBSCRIBE = "subscribe again from each place"
    PULSE = "send a heartbeat (client) or a ping (server)"
    CUT = "close the connection with 1001"
    CONNECT = "make a session and connect"
    FAIL_PENDING = "fail what waits for a reply"
    FORGET = "forget the session"


_N, _O, _L, _C = State.NEW, State.OPEN, State.LOST, State.CLOSED

TABLE: Mapping[Side, Mapping[tuple[State, Event], tuple[State, tuple[Act, ...]]]] = {
    Side.SERVER: {
        (_N, Event.CONNECTED): (_O, (Act.RESUME,)),
        (_N, Event.EXPIRED): (_C, (Act.FORGET,)),
        (_N, Event.ENDED): (_C, (Act.FORGET,)),
        (_O, Event.CONNECTED): (_O, (Act.REPLACE, Act.RESUME)),
        (_O, Event.HEARD): (_O, ()),
        (_O, Event.PULSE_DUE): (_O, (Act.PULSE,)),
        (_O, Event.SILENT): (_L, (Act.CUT,)),
        (_O, Event.BROKEN): (_L, ()),
        (_O, Event.ENDED): (_C, (Act.FORGET,)),
        (_L, Event.CONNECTED): (_O, (Act.RESUME,)),
        (_L, Event.EXPIRED): (_C, (Act.FORGET,)),
        (_L, Event.ENDED): (_C, (Act.FORGET,)),
    },
    Side.CLIENT: {
        (_N, Event.CONNECTED): (_O, (Act.SUBSCRIBE,)),
        (_N, Event.BROKEN): (_L, ()),
        (_N, Event.ENDED): (_C, (Act.FORGET,)),
        (_O, Event.HEARD): (_O, ()),
        (_O, Event.PULSE_DUE): (_O, (Act.PULSE,)),
        (_O, Event.SILENT): (_L, (Act.CUT, Act.FAIL_PENDING)),
        (_O, Event.BROKEN): (_L, (Act.FAIL_PENDING,)),
        (_O, Event.ENDED): (_C, (Act.FAIL_PENDING, Act.FORGET)),
        (_L, Event.RETRY): (_N, (Act.CONNECT,)),
        (_L, Event.ENDED): (_C, (Act.FORGET,)),
    },
}
"""State and event to the next state and what is done. What is not here changes nothing: it is an
event that comes too late, as the news of a broken connection does after the end."""


@dataclass(frozen=True, slots=True)
class Timer:
    """An event that time brings about.

    Attributes:
        event: the event.
        after_s: how long after *since* it comes; None: as long as the shell says (a back-off).
        since: ``entered`` (the state), ``heard`` (anything from the other end), ``pulsed`` (the
            last heartbeat or ping of this end).
    """

    event: Event
    after_s: float | None
    since: str


TIMERS: Mapping[Side, Mapping[State, tuple[Timer, ...]]] = {
    Side.SERVER: {
        _N: (Timer(Event.EXPIRED, limits.session_unused_s, "entered"),),
        _O: (
            Timer(Event.SILENT, limits.session_idle_s, "heard"),
            Timer(Event.PULSE_DUE, limits.session_ping_s, "pulsed"),
        ),
        _L: (Timer(Event.EXPIRED, limits.session_resume_s, "entered"),),
        _C: (),
    },
    Side.CLIENT: {
        _N: (),
        _O: (
            Timer(Event.SILENT, limits.silence_s, "heard"),
            Timer(Event.PULSE_DUE, limits.heartbeat_s, "pulsed"),
        ),
        _L: (Timer(Event.RETRY, None, "entered"),),
        _C: (),
    },
}
"""The events that time brings about in each state."""


class Session:
    """One end of a session.

    Args:
        side: which end.
        now: the time, in seconds of any clock that never goes back.
        times: other figures than the usual ones, by event: ``{Event.PULSE_DUE: 5.0}``.

    Attributes:
        state: where it stands.
    """

    __slots__ = ("_retry_s", "_since", "_timers", "side", "state")

    def __init__(
        self, side: Side, now: float, *, times: Mapping[Event, float] | None = None
    ) -> None:
        self.side = side
        self.state = State.NEW
        self._since = {"entered": now, "heard": now, "pulsed": now}
        self._timers = _timers(side, times or {})
        self._retry_s = 0.0

    def on(self, event: Event, now: float, *, retry_s: float = 0.0) -> tuple[Act, ...]:
        """Something happened; what this end does now, in order.

        Args:
            event: what.
            now: when.
            retry_s: how long a client waits before it tries again, if this loses the connection.
        """
        found = TABLE[self.side].get((self.state, event))
        if found is None:
            return ()
        state, acts = found
        if event is Event.HEARD:
            self._since["heard"] = now
        elif event is Event.PULSE_DUE:
            self._since["pulsed"] = now
        elif state is not self.state or event is Event.CONNECTED:
            self._since = dict.fromkeys(self._since, now)
            self._retry_s = retry_s
        self.state = state
        return acts

    def heard(self, now: float) -> None:
        """Anything came from the other end: the short way of ``on(Event.HEARD, now)``."""
        if self.state is State.OPEN:
            self._since["heard"] = now

    def due(self, now: float, *, retry_s: float = 0.0) -> tuple[Act, ...]:
        """What the passing of time brings about; at most one event, so call it until it is ()."""
        for timer in self._timers[self.state]:
            if now >= self._at(timer):
                return self.on(timer.event, now, retry_s=retry_s)
        return ()

    @property
    def next_at(self) -> float | None:
        """When ``due`` is to be called next; None: nothing is due in this state."""
        return min((self._at(timer) for timer in self._timers[self.state]), default=None)

    def _at(self, timer: Timer) -> float:
        after_s = self._retry_s if timer.after_s is None else timer.after_s
        return self._since[timer.since] + after_s


def _timers(side: Side, times: Mapping[Event, float]) -> Mapping[State, tuple[Timer, ...]]:
    if not times:
        return TIMERS[side]
    return {
        state: tuple(
            Timer(timer.event, times.get(timer.event, timer.after_s), timer.since)
            for timer in timers
        )
        for state, timers in TIMERS[side].items()
    }
