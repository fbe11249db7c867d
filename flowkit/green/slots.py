"""Deadlines, and a bound on how many do something at once."""

from __future__ import annotations

from collections import deque
from typing import Self

from flowkit.errors import DeadlineExceeded, UsageError
from flowkit.green.cells import Cell
from flowkit.green.native import NativeLock, monotonic

__all__ = ["Deadline", "Slots"]


class Deadline:
    """A point in time by which several steps must be done together.

    Args:
        timeout_s: seconds from now; None means never.
        what: what must be done by then, for the error.
    """

    __slots__ = ("at", "timeout_s", "what")

    def __init__(self, timeout_s: float | None, what: str = "the call") -> None:
        self.timeout_s = timeout_s
        self.at = None if timeout_s is None else monotonic() + timeout_s
        self.what = what

    def left_s(self) -> float | None:
        """Seconds left (None: unlimited).

        Raises:
            DeadlineExceeded: nothing is left.
        """
        if self.at is None:
            return None
        left = self.at - monotonic()
        if left <= 0:
            raise self.error()
        return left

    def error(self) -> DeadlineExceeded:
        """The error that says that the time is up."""
        return DeadlineExceeded(f"{self.what} took longer than {self.timeout_s:g} s")


class Slots:
    """A bound on how many greenlets and threads do something at once; first come, first served.

    Args:
        limit: how many may hold a slot at once, at least 1.
    """

    __slots__ = ("_closed", "_free", "_lock", "_queue", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise UsageError(f"a bound of {limit} lets nobody through", hint="give at least 1")
        self.limit = limit
        self._free = limit
        self._lock = NativeLock()
        self._queue: deque[Cell[None]] = deque()
        self._closed: Exception | None = None

    @property
    def in_use(self) -> int:
        """Slots that are held now."""
        return self.limit - self._free

    def acquire(self, deadline: Deadline | None = None) -> None:
        """Take a slot, waiting for one if need be; give it back with ``release``.

        Raises:
            DeadlineExceeded: none became free in time; none is held then.
        """
        with self._lock:
            if self._closed is not None:
                raise self._closed
            if self._free:
                self._free -= 1
                return
            turn: Cell[None] = Cell()
            self._queue.append(turn)
        try:
            if not turn.wait(deadline.left_s() if deadline else None):
                raise (deadline or Deadline(None)).error()
        except BaseException:
            self._give_up(turn)
            raise
        turn.get()  # raises if the slots were closed meanwhile

    def _give_up(self, turn: Cell[None]) -> None:
        with self._lock:
            if turn in self._queue:
                self._queue.remove(turn)
                return
        turn.wait()  # whoever took it out of the queue is about to set it
        if turn.outcome(0)[0] is None:
            self.release()  # it was granted in the same instant: pass it on

    def release(self) -> None:
        """Give a slot back; the one who waited longest gets it."""
        with self._lock:
            if not self._queue:
                self._free += 1
                return
            turn = self._queue.popleft()
        turn.set(None)

    def close(self, error: Exception) -> None:
        """Let nobody through any more: who waits and who comes gets *error*."""
        with self._lock:
            self._closed = error
            waiting, self._queue = self._queue, deque()
        for turn in waiting:
            turn.fail(error)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
