"""AgeClock: how old an entry is, whatever happens to the clock of the device.

A device without a battery starts in 1970 and jumps to the present when it hears the time. Measured
by that clock, what it put before would be decades old at once, and an outbox that forgets what is
older than a week would forget all of it. So ages are measured by what passes while the outbox is
open (the system's steady clock), and between two openings by the wall clock, if that has been told
the time and did not go back. This clock never goes back, so an age is never negative.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from flowkit.device import bounds

__all__ = ["AgeClock", "wall_ms"]


def wall_ms() -> int:
    """Milliseconds since 1970, as the device has them."""
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    """Milliseconds that passed, also while the device slept where the system can say that."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class AgeClock:
    """Counts the milliseconds of an outbox's life.

    Args:
        clock_ms: the wall clock. If it is not the system's, it also says what passes.
    """

    def __init__(self, clock_ms: Callable[[], int] | None = None) -> None:
        self.wall_ms = clock_ms or wall_ms
        self._steady_ms = clock_ms or _steady_ms
        self._lock = Lock()
        self._now = 0
        self._before = self._steady_ms()
        self._noted = -bounds.outbox_clock_note_ms

    def begin(self, age_ms: int, wall_ms: int) -> None:
        """Go on from what the last process noted: this clock, and the wall clock beside it."""
        with self._lock:
            passed = self.wall_ms() - wall_ms if wall_ms >= bounds.outbox_clock_sane_ms else 0
            self._now = max(self._now, age_ms + max(0, passed))

    def now(self) -> int:
        """Milliseconds since the outbox was begun."""
        with self._lock:
            steady = self._steady_ms()
            self._now += max(0, steady - self._before)
            self._before = steady
            return self._now

    def to_note(self, *, always: bool = False) -> tuple[int, int] | None:
        """What is to be written into the file now and then: this clock and the wall clock."""
        now = self.now()
        if not always and now - self._noted < bounds.outbox_clock_note_ms:
            return None
        self._noted = now
        return now, self.wall_ms()
