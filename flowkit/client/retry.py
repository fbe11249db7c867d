"""When a call is made again, and after how long. Pure: time and chance are arguments.

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

from dataclasses import dataclass
from enum import Enum

from flowkit import limits
from flowkit.errors import ConnectError, FlowKitError, PlatformError, TransportError

__all__ = ["Pace", "Repeat", "Retry"]

_PASSING = frozenset({429, 502, 503, 504})


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
    """The time before which the server asked not to be called (429 with ``Retry-After``).

    One for each API, so that the calls beside the refused one hold back too, for at most
    ``limits.pace_hold_max_s``: one wrong header must not make an API useless.
    """

    __slots__ = ("_resume_at_s",)

    def __init__(self) -> None:
        self._resume_at_s = 0.0

    def hold(self, error: FlowKitError, now_s: float) -> None:
        """Take note of *error*, which came at *now_s*."""
        if isinstance(error, PlatformError) and error.status == 429 and error.retry_after_s:
            hold_s = min(error.retry_after_s, limits.pace_hold_max_s)
            self._resume_at_s = max(self._resume_at_s, now_s + hold_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds to wait before the next request; 0 for none."""
        return max(0.0, self._resume_at_s - now_s)


def _is_passing(error: FlowKitError) -> bool:
    if isinstance(error, TransportError):
        return error.retryable
    return isinstance(error, PlatformError) and error.status in _PASSING


def _nothing_was_done(error: FlowKitError) -> bool:
    return isinstance(error, ConnectError) or (
        isinstance(error, PlatformError) and error.status == 429
    )
