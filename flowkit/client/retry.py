"""When a call is made, when again, and after how long. Time and chance are arguments.

Two questions decide, and both must be answered with yes:

* **Is the failure a passing one?** A ``TransportError`` says so itself (``retryable``); of the
  answers, 429, 502, 503 and 504 are.
* **Is it safe to ask again?** A read is (GET, MGET). A write is when the server is known to repeat
  the answer of a request that it has already done (it showed ``X-Request-Replay``), or when the
  failure itself says that nothing was done: no connection was made, or the rate limit refused the
  request. An array create without ``fhash`` or ``origin`` never is.

Source: protocol 3.2 (request ids), 3.4 (429), 12 (array create).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite

from flowkit import limits
from flowkit.errors import ConnectError, FlowKitError, PlatformError, TransportError
from flowkit.green import NativeLock

__all__ = ["Pace", "Repeat", "Retry"]

_PASSING = frozenset({429, 502, 503, 504})
_MARGIN_S = 0.001
"""Seconds by which a turn is late rather than early: two clocks do not run quite alike."""
_YEARS_S = 100_000_000
"""A reset beyond this many seconds is a time since 1970."""


class Repeat(Enum):
    """Whether a call may be made twice."""

    ALWAYS = "a read"
    IF_REPLAYED = "a write with a request id"
    NEVER = "an array create without fhash or origin"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently a call is made again.

    Attributes:
        repeats_max: repetitions after the first attempt; 0 for none.
        first_s: seconds before the first repetition; each further one waits twice as long.
        max_s: the longest wait that this rule chooses by itself, in seconds.
    """

    repeats_max: int = limits.retries_default
    first_s: float = limits.retry_first_delay_s
    max_s: float = limits.retry_delay_max_s

    def delay_s(
        self, attempt: int, jitter: float, retry_after_s: float | None = None
    ) -> float | None:
        """Seconds to wait before *attempt* (2 is the first repetition), or None to give up.

        Args:
            jitter: a random number from 0 to 1; the wait is between half and the whole of the
                back-off, so that clients which failed together do not come back together.
            retry_after_s: what the server asked for; never undercut, whatever ``max_s`` says.
        """
        if attempt - 1 > self.repeats_max:
            return None
        backoff = min(self.max_s, self.first_s * 2.0 ** min(attempt - 2, 60))
        return max(backoff * (0.5 + jitter / 2), retry_after_s or 0.0)

    def may_repeat(self, repeat: Repeat, error: FlowKitError, *, replays: bool) -> bool:
        """Whether a call that failed with *error* is worth and safe to repeat.

        Args:
            replays: the server has shown that it repeats the answers of requests it has done.
        """
        if repeat is Repeat.NEVER or not _is_passing(error):
            return False
        return repeat is Repeat.ALWAYS or replays or _nothing_was_done(error)


class Pace:
    """When the next request may go, after what the server has said of its limits.

    One for each API, for all its threads and greenlets. Two things are minded:

    * A 429 with ``Retry-After`` holds back every call, also those beside the refused one, for at
      most ``limits.pace_hold_max_s``: one wrong header must not make an API useless.
    * Where answers carry ``X-RateLimit-*``, the budget is counted here as the server counts it, so
      that calls wait their turn instead of running into a 429. A turn is taken before the request
      goes; what the answers say puts the count right. Without such headers nothing waits.

    A turn is ``take`` (how long to wait), then ``go`` (the request is sent), then ``done`` (it was
    answered, or never will be); who gives up while waiting calls ``done`` only.
    """

    __slots__ = ("_at_s", "_left", "_limit", "_lock", "_out", "_per_s", "_resume_at_s", "_waiting")

    def __init__(self) -> None:
        self._lock = NativeLock()
        self._resume_at_s = 0.0
        self._limit = 0.0  # 0: none is known
        self._per_s = 0.0
        self._left = 0.0
        self._at_s = 0.0
        self._out = 0
        self._waiting = 0

    def hold(self, error: FlowKitError, now_s: float) -> None:
        """Take note of *error*, which came at *now_s*.

        Where the same answer told its policy, the turns of the others are right already; to hold
        them all would send them all at once afterwards.
        """
        if isinstance(error, PlatformError) and error.status == 429 and error.retry_after_s:
            said = getattr(error.response, "headers", {})
            if not (self._limit and "x-ratelimit-policy" in said):
                self._hold_until(error.retry_after_s, now_s)

    def take(self, now_s: float) -> float:
        """Take a turn: seconds to wait before the request may go, 0 for none."""
        with self._lock:
            self._refill(now_s)
            self._out += 1
            self._waiting += 1
            self._left -= 1.0
            turn_s = 0.0
            if self._limit and self._left < 0:
                turn_s = _MARGIN_S - self._left / self._per_s
            return max(turn_s, self._resume_at_s - now_s, 0.0)

    def held_s(self, now_s: float) -> float:
        """Seconds that all calls are held back for, those whose turn has come included."""
        return max(0.0, self._resume_at_s - now_s)

    def go(self) -> None:
        """The request of a turn is sent."""
        with self._lock:
            self._waiting -= 1

    def done(self, *, sent: bool = True) -> None:
        """The turn is over; one that was not *sent* is given back."""
        with self._lock:
            self._out -= 1
            if not sent:
                self._waiting -= 1
                self._left += 1.0

    def learn(self, headers: Mapping[str, str], now_s: float, wall_s: float) -> None:
        """Take note of the limits in an answer's *headers*; *wall_s* is the time since 1970."""
        said = _Limits.read(headers, wall_s)
        if said is None:
            return
        with self._lock:
            if said.per_s:
                self._agree(said, now_s)
            elif said.left < 1:
                self._hold_until(said.reset_s, now_s)

    def forget(self) -> None:
        """The server says nothing of limits any more."""
        self._limit = 0.0

    def _agree(self, said: _Limits, now_s: float) -> None:
        """Put the count between what can be true.

        Of the requests that are out, the server may have counted all or none before it answered;
        of those that still wait it has counted none. What is left is told in whole requests.
        """
        self._refill(now_s)
        is_new = not self._limit
        self._limit, self._per_s, self._at_s = said.limit, said.per_s, now_s
        most = said.left + 0.999 - self._waiting
        if said.limit <= (said.reset_s - 1.0) * said.per_s:  # a batch has taken more than all
            most = said.limit - said.reset_s * said.per_s - self._waiting
        least = min(said.left - self._out, most)
        if is_new:
            self._left = least
        elif self._waiting:  # their turns are given: the next one comes after them
            self._left = min(self._left, most)
        else:
            self._left = min(max(self._left, least), most)
        self._left = min(self._left, self._most())

    def _most(self) -> float:
        """What there can be at most: a full bucket takes no more, and who waits took nothing yet.

        One is kept in hand where there are several: a burst may travel longer than the request
        after it, and the server's bucket, full until then, did not fill meanwhile.
        """
        return self._limit - (self._limit >= 2) - self._waiting

    def _refill(self, now_s: float) -> None:
        if self._limit and now_s > self._at_s:
            left = self._left + (now_s - self._at_s) * self._per_s
            self._left = min(self._most(), left)
            self._at_s = now_s

    def _hold_until(self, seconds: float, now_s: float) -> None:
        hold_s = min(seconds, limits.pace_hold_max_s)
        self._resume_at_s = max(self._resume_at_s, now_s + hold_s)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What ``X-RateLimit-*`` says.

    Attributes:
        limit: requests that may be made at once.
        left: how many of them are left, in whole ones.
        reset_s: seconds until all of them are back.
        per_s: how many come back each second, 0 if that is not said.
    """

    limit: float
    left: float
    reset_s: float
    per_s: float

    @classmethod
    def read(cls, headers: Mapping[str, str], wall_s: float) -> _Limits | None:
        """None if it is not there, or nonsense."""
        if "x-ratelimit-remaining" not in headers:
            return None
        try:
            left = float(headers["x-ratelimit-remaining"])
            limit = float(headers.get("x-ratelimit-limit", "0"))
            reset_s = float(headers.get("x-ratelimit-reset", "0"))
            window = headers.get("x-ratelimit-policy", "").partition(";w=")[2]
            per_s = limit / float(window) if window else 0.0
        except (ValueError, ZeroDivisionError):
            return None
        if reset_s > _YEARS_S:  # a time, as some servers have it, and not a span
            reset_s -= wall_s
        if not (isfinite(left + limit + reset_s + per_s) and limit >= 0 and per_s >= 0):
            return None
        return cls(limit, left, max(0.0, reset_s), per_s)


def _is_passing(error: FlowKitError) -> bool:
    if isinstance(error, TransportError):
        return error.retryable
    return isinstance(error, PlatformError) and error.status in _PASSING


def _nothing_was_done(error: FlowKitError) -> bool:
    return isinstance(error, ConnectError) or (
        isinstance(error, PlatformError) and error.status == 429
    )
