"""Green threads that do one job after the other.

A green thread of its own costs a short job more than the job: its stack is taken from the system
and given back. So a worker that has ended one job goes on with the next that is due; only when all
workers wait is another one made. A worker that finds nothing due ends.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from contextvars import copy_context
from typing import Any, Protocol

import gevent
from gevent._hub_local import get_hub_if_exists
from greenlet import GreenletExit, getcurrent, greenlet

from flowkit.green.native import eventlet_patched, monotonic

__all__ = ["Crew", "Job", "crew"]

_TURN_S = 0.005
"""How long jobs may go on before the hub looks at its sockets and timers."""


class Job(Protocol):
    """What a worker does.

    Attributes:
        worker: the green thread that is at it; None before and after. Written by the crew.
    """

    worker: Any

    def run(self) -> None:
        """Do it; may wait. Its outcome is its own affair."""


class Crew:
    """The workers of one hub.

    Attributes:
        begun: how many jobs, since ever.
        loop: of the hub.
    """

    def __init__(self, hub: Any) -> None:
        self.begun = 0
        self.loop = hub.loop
        self._hub = hub
        self._due: deque[Job] = deque()
        self._is_called = False

    def add(self, job: Job) -> None:
        """Have *job* done soon; from any thread, never waits."""
        self._due.append(job)
        if get_hub_if_exists() is not self._hub:
            self.loop.run_callback_threadsafe(self._start)
        elif not self._is_called:
            self._is_called = True
            self.loop.run_callback(self._start)

    @property
    def added(self) -> int:
        """How many jobs there were, since ever, with those that are due; for the hub's thread."""
        return self.begun + len(self._due)

    def stop(self, jobs: Iterable[Job]) -> None:
        """Break off those of *jobs* that are under way, soon; from any thread."""
        self.loop.run_callback_threadsafe(_break_off, list(jobs))

    def _start(self) -> None:
        """Runs in the hub: as many workers as it takes until every job has been begun."""
        self._is_called = False
        until = monotonic() + _TURN_S
        while self._due:
            if monotonic() > until:
                self._is_called = True
                self.loop.run_callback(self._start)
                return
            greenlet(self._work, self._hub).switch()

    def _work(self) -> None:
        """Runs in a worker, which always has the hub to itself until it waits."""
        until = monotonic() + _TURN_S
        while self._due:
            job = self._due.popleft()
            self.begun += 1
            job.worker = getcurrent()
            try:
                copy_context().run(job.run)
            except (GreenletExit, gevent.Timeout):
                pass  # it was stopped, and has said so
            except BaseException:  # noqa: BLE001 - a Ctrl-C goes on to the main greenlet
                self._hub.handle_error(job, *sys.exc_info())
            finally:
                job.worker = None
            if monotonic() > until:
                return  # each ``add`` has called ``_start``, which sees what is still due


def _break_off(jobs: list[Job]) -> None:
    # In the hub, where no worker is at work: each waits, and cannot go on with another job between
    # the look and the throw.
    for job in jobs:
        if job.worker is not None:
            job.worker.throw(GreenletExit)


def crew() -> Crew:
    """The workers of the calling thread's hub."""
    if eventlet_patched():
        from flowkit.green import under_eventlet

        return under_eventlet.crew()  # type: ignore[return-value]  # the same face
    hub = gevent.get_hub()
    found: Crew | None = hub.__dict__.get("_flowkit_crew")
    if found is None or found.loop is not hub.loop:
        found = hub.__dict__["_flowkit_crew"] = Crew(hub)
    return found
