"""The lanes of a sender: threads with a connection each, which do its work turn by turn."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flowkit.device.link import Connection

__all__ = ["Lane"]


class Work(Protocol):
    """One turn; False once the lane has to end."""

    def __call__(self, connection: Connection, /) -> bool:
        """Do it; may wait for something to do."""


class Lane:
    """A thread with a connection of its own; it holds nothing that keeps its sender alive.

    Args:
        work: a bound method.
        connection: the lane's own.
        number: for the name of the thread.
    """

    def __init__(self, work: Work, connection: Connection, number: int) -> None:
        self._connection = connection
        self._thread = threading.Thread(
            target=_run,
            args=(weakref.WeakMethod(work), connection),
            name=f"flowkit-sender-{number}",
            daemon=True,
        )
        self._lock = threading.Lock()
        self.is_started = False

    def start(self) -> None:
        """Begin, once."""
        with self._lock:
            if not self.is_started:
                self.is_started = True
                self._thread.start()

    def cut(self) -> None:
        """End its connection."""
        self._connection.cut()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        if self.is_started and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)


def _run(work: weakref.WeakMethod[Work], connection: Connection) -> None:
    try:
        while (turn := work()) is not None and turn(connection):
            del turn
    finally:
        connection.close()
