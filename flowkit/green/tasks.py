"""Greenlets whose outcome anybody may wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from flowkit.errors import Cancelled
from flowkit.green.cells import Cell
from flowkit.green.native import eventlet_patched, patched, start_thread
from flowkit.green.slots import Deadline

__all__ = ["Expired", "Task", "in_thread", "spawn", "within"]

Expired = gevent.Timeout
"""Raised in whoever set a ``gevent.Timeout``: no ``Exception``, but an outcome all the same."""


class Task(gevent.Greenlet):  # type: ignore[misc]  # gevent ships no types
    """A greenlet whose outcome is a ``Cell``, so that other threads may wait for it too.

    It behaves as gevent's own (``get``, ``value``, ``exception``, ``kill``, ``join``), but prints
    no traceback when its function fails: the caller finds the error in the outcome.
    """

    # For gevent's own pictures of who spawned whom; taking down the stack is a third of the cost of
    # a greenlet, and calls know the line that made them.
    spawning_stack_limit = 0

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__()
        self.cell: Cell[Any] = Cell()
        self._work = (function, args)
        self.rawlink(_ended)

    def _run(self) -> None:
        function, args = self._work
        try:
            self.cell.set(function(*args))
        except gevent.GreenletExit:
            self.cell.fail(Cancelled("the call was stopped before it ended"))
        except Exception as error:  # noqa: BLE001 - kept for whoever takes the outcome
            self.cell.fail(error)
        except BaseException as error:
            self.cell.fail(error)
            raise
        finally:
            del self._work

    @property
    def value(self) -> Any:
        """What the function returned; None before that and after a failure."""
        return self.cell.outcome()[1] if self.cell.is_ready else None

    @property
    def exception(self) -> BaseException | None:
        """The error of the function; None before that and after a success."""
        return self.cell.outcome()[0] if self.cell.is_ready else None

    @property
    def exc_info(self) -> tuple[Any, ...] | None:
        """The error as a triple, as gevent's greenlets give it."""
        error = self.exception
        return (type(error), error, error.__traceback__) if error is not None else None

    def successful(self) -> bool:
        """Whether the function has returned."""
        return self.cell.is_ready and self.cell.outcome()[0] is None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for the function to end; its value, or its error raised (gevent's signature).

        Raises:
            gevent.Timeout: not within *timeout* seconds, or *block* is false and it has not ended.
        """
        if not self.cell.wait(timeout if block else 0):
            raise gevent.Timeout(timeout)
        return self.cell.get()


def _ended(task: Task) -> None:
    """A task that was killed before its first step never ran its own code: settle it here."""
    if not task.cell.is_ready:
        task.cell.fail(Cancelled("the call was stopped before it began"))


def spawn(function: Callable[..., Any], *args: Any) -> Task:
    """Run ``function(*args)`` in a new greenlet of the calling thread; returns at once.

    In a process that eventlet has patched it is a green thread of eventlet's, with the same face.
    It begins when the caller next waits. ``task.cell`` holds the outcome; a failure prints nothing.
    """
    if eventlet_patched():
        from flowkit.green.under_eventlet import EventletTask

        return EventletTask(function, args, Cell())  # type: ignore[return-value]  # the same face
    task = Task(function, *args)
    task.start()
    return task


def in_thread(function: Callable[..., Any], *args: Any) -> Cell[Any]:
    """Run ``function(*args)``, which may block, in a native thread of its own; its outcome."""
    cell: Cell[Any] = Cell()

    def run() -> None:
        try:
            cell.set(function(*args))
        except BaseException as error:  # noqa: BLE001 - handed to whoever takes the outcome
            cell.fail(error)

    start_thread(run, name=getattr(function, "__qualname__", None))
    return cell


def within(deadline: Deadline, function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, which waits in its own way and knows nothing of the deadline.

    Where its sockets are green it runs here and is broken off in time; else in a native thread,
    which is left to itself when the time is up. Greenlets of the caller's hub run meanwhile.

    Raises:
        DeadlineExceeded: it did not end in time.
    """
    if eventlet_patched():
        from flowkit.green.under_eventlet import timer

        with timer(deadline.left_s(), deadline.error()):
            return function(*args)
    if "socket" in patched():
        with gevent.Timeout(deadline.left_s(), deadline.error()):
            return function(*args)
    outcome = in_thread(function, *args)
    if not outcome.wait(deadline.left_s()):
        raise deadline.error()
    return outcome.get()
