"""Waiting and spawning in a process that eventlet has patched.

Imported only there. Its hub and gevent's cannot share a thread, so gevent is not used at all:
requests go through the stock adapter, on eventlet's sockets.

eventlet has no safe way to wake its hub from another thread. A waiter is therefore woken at once by
its own thread, and looks every ``_LOOK_S`` whether a foreign one has set the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import eventlet
import eventlet.event
import eventlet.patcher
import eventlet.timeout
from greenlet import GreenletExit

from flowkit.errors import Cancelled

if TYPE_CHECKING:
    from flowkit.green.crews import Job

__all__ = ["EventletTask", "EventletWaiter", "crew", "original", "timer"]

_LOOK_S = 0.02


def original(module: str, name: str) -> Any:
    """What a standard module held before eventlet patched it."""
    return getattr(eventlet.patcher.original(module), name)


timer = eventlet.timeout.Timeout
"""A context manager of (seconds, error) that raises the error in its block when they are over."""

_thread_id = original("_thread", "get_ident")


class EventletWaiter:
    """Lets one green thread of eventlet sleep until woken."""

    __slots__ = ("_event", "_thread", "_woken")

    def __init__(self) -> None:
        self._event = eventlet.event.Event()
        self._thread = _thread_id()
        self._woken = False

    def wake(self) -> None:
        """Wake it, from any thread."""
        self._woken = True
        if _thread_id() == self._thread:
            self._event.send()

    def wait(self, timeout_s: float | None) -> None:
        """Wait until woken, at most *timeout_s* seconds."""
        left_s = float("inf") if timeout_s is None else timeout_s
        while not self._woken and left_s > 0:
            with eventlet.timeout.Timeout(min(left_s, _LOOK_S), False):
                self._event.wait()
            left_s -= _LOOK_S


class EventletTask:
    """A green thread of eventlet with the face of ``flowkit.green.Task``."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], cell: Any) -> None:
        self.cell = cell
        self._thread = eventlet.spawn(self._run, function, args)
        self._thread.link(self._ended)

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self.cell.set(function(*args))
        except GreenletExit:
            self.cell.fail(Cancelled("the call was stopped before it ended"))
        except Exception as error:  # noqa: BLE001 - kept for whoever takes the outcome
            self.cell.fail(error)

    def _ended(self, _thread: object) -> None:
        if not self.cell.is_ready:
            self.cell.fail(Cancelled("the call was stopped before it began"))

    def ready(self) -> bool:
        """Whether it has ended."""
        return bool(self.cell.is_ready)

    def successful(self) -> bool:
        """Whether the function has returned."""
        return self.ready() and self.cell.outcome()[0] is None

    @property
    def value(self) -> Any:
        """What the function returned; None before that and after a failure."""
        return self.cell.outcome()[1] if self.ready() else None

    @property
    def exception(self) -> BaseException | None:
        """The error of the function; None before that and after a success."""
        return self.cell.outcome()[0] if self.ready() else None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for the function to end; its value, or its error raised."""
        if not self.cell.wait(timeout if block else 0):
            raise eventlet.timeout.Timeout(timeout)
        return self.cell.get()

    wait = get

    def join(self, timeout: float | None = None) -> None:
        """Wait for the function to end."""
        self.cell.wait(timeout)

    def kill(self, block: bool = True, timeout: float | None = None) -> None:
        """Stop it: its outcome is ``Cancelled``."""
        self._thread.kill()
        if block:
            self.cell.wait(timeout)


class _EventletCrew:
    """The face of ``flowkit.green.Crew``; here every job has a worker of its own."""

    def __init__(self) -> None:
        self.added = 0
        self.begun = 0

    def add(self, job: Job) -> None:
        """Have *job* done soon, in the calling thread."""
        self.added += 1
        eventlet.spawn_n(self._work, job)

    def _work(self, job: Job) -> None:
        self.begun += 1
        job.worker = eventlet.getcurrent()
        try:
            job.run()
        except GreenletExit:
            pass  # it was stopped
        finally:
            job.worker = None

    def stop(self, jobs: Iterable[Job]) -> None:
        """Break off those of *jobs* that are under way."""
        for job in jobs:
            if job.worker is not None:
                eventlet.kill(job.worker)


_here = original("_thread", "_local")()


def crew() -> _EventletCrew:
    """That of the calling native thread."""
    if not hasattr(_here, "crew"):
        _here.crew = _EventletCrew()
    found: _EventletCrew = _here.crew
    return found
