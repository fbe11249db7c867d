"""Who sends what, and when: the desk where the lanes of one sender take their streams.

A stream is with one lane at a time. After a failure of the connection all lanes pause and one of
them tries; after a refusal one stream rests. Both pauses grow, with chance in them, so that a fleet
which failed together does not come back together.

Rules: no call of the outbox is made while the lock is held, so ``put`` never waits for one.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from flowkit.device import bounds
from flowkit.device.pauses import backoff_s

if TYPE_CHECKING:
    from flowkit.device.outbox import Outbox

__all__ = ["Desk", "SenderState"]

_WAIT_MAX_S = 30.0


@dataclass(frozen=True, slots=True)
class SenderState:
    """How sending goes.

    Attributes:
        online: whether the last request was answered by the platform.
        error: why it was not, or what was refused last; empty if nothing is wrong.
        retry_in_s: seconds until the next try, 0 if none is waited for.
    """

    online: bool
    error: str
    retry_in_s: float


class _Rest(NamedTuple):
    """How often a stream was refused, until when it rests, and since when."""

    level: int
    until: float
    since: float


_NO_REST = _Rest(0, 0.0, 0.0)


class Desk:
    """What the lanes of one sender share.

    Args:
        outbox: says which streams have something to send.
        linger_s: seconds that a row may wait for company.
        linger_rows: as many rows do not wait any longer.
        chance: gives numbers from 0 to 1.

    Attributes:
        is_closing: whether the lanes have to end.
        settled: grows with every answer that was learned from.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        linger_s: float = 0.0,
        linger_rows: int = 1,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._linger_s = linger_s
        self._linger_rows = linger_rows
        self._chance = chance
        self._turn = threading.Condition(threading.Lock())
        self._claiming = threading.Lock()
        self._busy: set[str] = set()
        self._rests: dict[str, _Rest] = {}
        self._failed_at = self._asked_until = 0.0
        self._level = 0
        self._held_until = 0.0
        self._is_probing = False
        self._news = 0
        self._puts = 0
        self._first_put_at: float | None = None
        self._is_draining = True
        self._flushes = 0
        self._greet_at = 0.0
        self._answer = threading.Condition(threading.Lock())
        self.is_closing = False
        self.settled = 0

    # The side of those who put and wait

    def put(self) -> None:
        """Something was put into the outbox; called by whoever did, after its commit."""
        with self._turn:
            self._puts += 1
            self._news += 1
            if self._first_put_at is None:
                self._first_put_at = monotonic()
                self._turn.notify()
            elif self._puts >= self._linger_rows:
                self._turn.notify()

    def news(self) -> None:
        """Something may have become possible."""
        with self._turn:
            self._news += 1
            self._turn.notify_all()

    def hurry(self) -> None:
        """End all pauses."""
        with self._turn:
            self._held_until = 0.0
            self._rests = {name: rest._replace(until=0.0) for name, rest in self._rests.items()}
            self._drain()

    def drain(self) -> None:
        """There is something to send that nobody has put: nothing lingers until all is sent."""
        with self._turn:
            self._drain()

    def _drain(self) -> None:
        self._is_draining = True
        self._news += 1
        self._turn.notify_all()

    def _shorten(self) -> None:
        """Somebody waits: pauses are as short as the first one, but what a server asked for."""
        first_s = bounds.sender_retry_first_s
        soon = max(self._asked_until, self._failed_at + first_s)
        self._held_until = min(self._held_until, soon)
        for name, rest in self._rests.items():
            self._rests[name] = rest._replace(until=min(rest.until, rest.since + first_s))
        self._drain()

    def flushing(self, more: int) -> None:
        """Somebody begins (1) or ends (-1) to wait for what is queued: it does not linger then."""
        is_empty = not self._outbox.streams()
        with self._turn:
            self._flushes += more
            if more < 0 and is_empty:
                self._is_draining = False
            if more > 0:
                self._shorten()

    def wait_settled(self, seen: int, deadline: float | None) -> bool:
        """Wait for an answer after the one numbered *seen*; False once the time is up."""
        with self._answer:
            while self.settled == seen and not self.is_closing:
                left_s = _WAIT_MAX_S if deadline is None else deadline - monotonic()
                if left_s <= 0:
                    return False
                self._answer.wait(left_s)
        return True

    def progress(self) -> None:
        """An answer was learned from."""
        with self._answer:
            self.settled += 1
            self._answer.notify_all()

    def close(self) -> None:
        """The lanes have to end."""
        self.is_closing = True
        self.news()
        self.progress()

    # The side of the lanes

    def take(self, *, waits: bool = True) -> list[str] | None:
        """Streams to send, which are the caller's until ``release``; waits for some.

        Returns:
            None once the lane has to end, or at once where it does not wait and nothing is due; no
            stream when it is time to ask for the marks.
        """
        while not self.is_closing:
            with self._turn:
                seen = self._news
                wait_s = self._pause_s()
                if wait_s <= 0 and self._takes_greeting():
                    return []
            if wait_s <= 0:
                taken = self._claimed()
                if taken:
                    return taken
            with self._turn:
                if self._level and wait_s <= 0:
                    self._is_probing = False
                if not waits:
                    return None
                if self._news == seen and not self.is_closing:
                    self._turn.wait(wait_s if wait_s > 0 else self._next_s())
        return None

    def take_idle(self, names: Iterable[str]) -> list[str]:
        """Those among *names* that are with no lane; they are the caller's until ``release``."""
        with self._turn:
            taken = [name for name in names if name not in self._busy]
            self._busy.update(taken)
        return taken

    def release(self, names: Iterable[str]) -> None:
        """The lane is done with these streams."""
        with self._turn:
            self._busy.difference_update(names)
            self._is_probing = False
            self._news += 1
            self._turn.notify()

    def give_back(self, names: Iterable[str]) -> None:
        """The lane goes on, but not with these streams: another one may have them."""
        with self._turn:
            self._busy.difference_update(names)
            self._news += 1
            self._turn.notify()

    def rest(self, name: str, seconds: float | None = None) -> int:
        """A stream was refused: it rests, for longer each time, or for *seconds*.

        Returns:
            how often that was since it went on last.
        """
        with self._turn:
            level = self._rests.get(name, _NO_REST).level + (seconds is None)
            pause_s = backoff_s(level, self._chance) if seconds is None else seconds
            now = monotonic()
            self._rests[name] = _Rest(level, now + pause_s, now)
            return level

    def again(self, name: str) -> None:
        """A stream rests no longer; should it be refused again, it will for longer."""
        with self._turn:
            self._rests[name] = self._rests.get(name, _NO_REST)._replace(until=0.0)

    def calm(self, name: str) -> None:
        """A stream goes on."""
        with self._turn:
            self._rests.pop(name, None)

    def fresh_start(self) -> None:
        """The file has a new box: all streams are looked at anew, after a pause.

        A cache between two servers may make one fork after another; it is not pressed.
        """
        with self._turn:
            self._rests.clear()
            self._is_draining = True
        self.pause(None)
        self.news()
        self.progress()

    @property
    def is_resting(self) -> bool:
        """Whether a stream rests."""
        return bool(self._rests)

    def pause(self, asked_s: float | None) -> float:
        """A request failed: seconds that all lanes pause for; *asked_s* is the server's wish."""
        with self._turn:
            left_s = self._held_until - monotonic()
            if left_s > 0 and asked_s is None:
                return left_s  # another lane has failed at the same moment
            self._level += 1
            pause_s = backoff_s(self._level, self._chance)
            if asked_s is not None:
                pause_s = max(pause_s, min(asked_s, bounds.sender_retry_after_max_s))
            self._failed_at = monotonic()
            self._held_until = self._failed_at + pause_s
            if asked_s is not None:
                self._asked_until = self._held_until
            return pause_s

    def resume(self) -> None:
        """A request was answered."""
        with self._turn:
            self._level = 0
            self._asked_until = 0.0
            self._greet_at = monotonic() + bounds.sender_greet_s

    def held_s(self) -> float:
        """Seconds until the next try; 0 if none is waited for."""
        return max(0.0, self._held_until - monotonic())

    # Inside

    def _pause_s(self) -> float:
        """Seconds for which this lane may do nothing; while the others wait, one of them tries."""
        held_s = self.held_s()
        if held_s > 0:
            return held_s
        if self._level and self._is_probing:
            return _WAIT_MAX_S
        self._is_probing = bool(self._level)
        return 0.0

    def _takes_greeting(self) -> bool:
        """Whether it is time to ask for the marks; then it is this lane that does."""
        if monotonic() < self._greet_at:
            return False
        self._greet_at = monotonic() + bounds.sender_greet_s
        return True

    def _claimed(self) -> list[str]:
        """The streams that are due, now this lane's."""
        if not self._is_due():
            return []
        with self._claiming:
            waiting = self._outbox.streams()
            with self._turn:
                if not waiting:
                    self._is_draining = False
                now = monotonic()
                taken = [
                    name
                    for name in waiting
                    if name not in self._busy and self._rests.get(name, _NO_REST).until <= now
                ]
                self._busy.update(taken)
        return taken

    def _is_due(self) -> bool:
        with self._turn:
            if not (self._is_draining or self._flushes) and self._due_s() > 0:
                return False
            self._is_draining = True
            self._puts = 0
            self._first_put_at = None
            return True

    def _due_s(self) -> float:
        """Seconds until what was put has lingered long enough."""
        if self._first_put_at is None:
            return _WAIT_MAX_S
        if self._puts >= self._linger_rows:
            return 0.0
        return self._first_put_at + self._linger_s - monotonic()

    def _next_s(self) -> float:
        """Seconds after which there may be something to do without any news."""
        now = monotonic()
        times = [_WAIT_MAX_S, self._greet_at - now, self._due_s()]
        times += [rest.until - now for rest in self._rests.values() if rest.until > now]
        return max(0.001, min(times))
