"""Who runs which task when: at most once at a time, on one server, by the clock.

The servers of one store agree by a lease; its holder runs the tasks, and every result is stored
only while it still holds it, in the same commit. A task runs at once after it was made, then each
``periodicity`` after its last start, a little later at random, so that tasks made together do not
stay together. What was missed while no server ran is made up for by one run.

Nothing is asked by turns: commits tell of new tasks, and the thread sleeps until the next run or
the renewal of the lease. Without tasks there is no thread.

Source: protocol 7.5 (scheduling), 1.12 (tasks).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flowkit import limits
from flowkit.errors import ServerError
from flowkit.green import NativeLock, NativeQueue, start_thread
from flowkit.query.places import Places
from flowkit.server.metrics import Metrics
from flowkit.server.store.base import Commit, Reader, Store, StoredObject, Writer
from flowkit.server.tasks.runs import Brought, Run, store_run

__all__ = ["KINDS", "Bring", "Scheduler"]

_log = logging.getLogger(__name__)

KINDS = ("api_task", "rss_task")
"""The resources that run by the clock."""

STANDING = "mqtt_task"
"""The resource that stays connected."""

LEASE = "tasks"

Bring = Callable[[StoredObject], Brought]
"""Runs a task without storing anything; never raises for what goes wrong elsewhere."""


class Standing(Protocol):
    """A connection that is kept up for a task."""

    task: StoredObject

    def wake(self) -> None:
        """There may be new drops to publish."""

    def close(self) -> None:
        """Disconnect."""


Connect = Callable[[StoredObject], Standing]
"""Begins a connection; never waits."""


class LeaseLost(Exception):
    """Another server runs the tasks by now."""


class Scheduler:
    """The tasks of one server, at work between ``start()`` and ``close()``.

    Args:
        store: where tasks are and drops go.
        bring: by kind, how a task is run.
        connect: begins a standing connection; None: there are none here.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        places: the table of postal codes.
        metrics: counts the runs.
        holder: this server's name in the lease.
        threads: most runs at once.
    """

    def __init__(
        self,
        store: Store,
        bring: Mapping[str, Bring],
        *,
        connect: Connect | None = None,
        clock_ms: Callable[[], int],
        places: Places | None = None,
        metrics: Metrics | None = None,
        holder: str = "",
        threads: int = limits.task_threads_max,
    ) -> None:
        self._store = store
        self._bring = bring
        self._connect = connect
        self._standing: dict[str, Standing] = {}
        self._clock_ms = clock_ms
        self._places = places
        self._metrics = metrics or Metrics()
        self._holder = holder or secrets.token_hex(8)
        self._threads = threads
        self._lock = NativeLock()
        self._wakes: Any = NativeQueue()
        self._jobs: Any = NativeQueue()
        self._ended: Any = NativeQueue()
        self._is_started = False
        self._is_closing = False
        self._running: set[str] = set()
        self._workers = 0
        self._chance = random.Random()  # noqa: S311 - it spreads runs, it guards nothing

    def start(self) -> None:
        """Take up the tasks that there are, and act on every commit that changes one."""
        self._store.on_commit(self._told)
        if self._store.read(_tasks):
            self._wake()

    def close(self) -> None:
        """Begin no further runs and wait for those under way; give the lease back.

        May be called twice.
        """
        with self._lock:
            if self._is_closing:
                return
            self._is_closing = True
            was_started, self._is_started = self._is_started, True
            workers = self._workers
        for _ in range(workers):
            self._jobs.put(None)
        if was_started:
            self._wakes.put(None)
            self._ended.get()
        for _ in range(workers):
            self._ended.get()
        if was_started:
            self._release()

    def is_connected(self, task_id: str) -> bool:
        """Whether a connection is kept up for that task."""
        return task_id in self._standing

    # The clock

    def _told(self, commit: Commit) -> None:
        """On the writer's thread: leave word, and do not wait."""
        for standing in list(self._standing.values()):
            if standing.task.doc.get("source") in commit.sources:
                standing.wake()
        if commit.kinds.intersection((*KINDS, STANDING)):
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._is_closing:
                return
            begins, self._is_started = not self._is_started, True
        if begins:
            start_thread(self._loop, name="flowkit-tasks")
        else:
            self._wakes.put(True)

    def _loop(self) -> None:
        try:
            while not self._is_closing:
                self._pause(self._looked())
        finally:
            self._keep([])
            self._ended.put(None)

    def _pause(self, wait_s: float | None) -> None:
        """Until somebody wakes the thread, at most *wait_s* seconds."""
        with contextlib.suppress(queue.Empty):
            self._wakes.get(timeout=wait_s)

    def _looked(self) -> float | None:
        """Begin what is due; seconds until there is something to do again, None for never."""
        try:
            tasks = self._store.read(_tasks)
            if not tasks:
                self._keep([])
                return None
            if not self._store.write(self._take_lease):
                self._keep([])
                return limits.lease_duration_s / 3
        except ServerError as error:
            _log.error("the tasks have to wait: %s", error)
            return limits.lease_duration_s / 3
        self._keep([task for task in tasks if task.kind == STANDING])
        tasks = [task for task in tasks if task.kind != STANDING]
        now = self._clock_ms()
        for task in tasks:
            if task.doc.get("nextRun", 0) <= now:
                self._begin(task)
        coming = [task.doc.get("nextRun", 0) - now for task in tasks]
        later_s: list[float] = [each / 1000 for each in coming if each > 0]
        return min([limits.lease_duration_s / 3, *later_s])

    def _keep(self, tasks: list[StoredObject]) -> None:
        """Have a connection for each of *tasks* as it is now, and no other."""
        wanted = {task.id: task for task in tasks} if self._connect is not None else {}
        for task_id, standing in list(self._standing.items()):
            task = wanted.get(task_id)
            if task is None or _definition(task) != _definition(standing.task):
                standing.close()
                del self._standing[task_id]
        for task_id, task in wanted.items():
            if task_id not in self._standing and self._connect is not None:
                self._standing[task_id] = self._connect(task)

    def _take_lease(self, writer: Writer) -> bool:
        return writer.take_lease(LEASE, self._holder, int(limits.lease_duration_s * 1000))

    def _release(self) -> None:
        try:
            self._store.write(lambda writer: writer.release_lease(LEASE, self._holder))
        except ServerError as error:
            _log.warning("the lease of the tasks runs out by itself: %s", error)

    # The runs

    def _begin(self, task: StoredObject) -> None:
        """Give a task to a thread, unless it runs already."""
        with self._lock:
            if task.id in self._running or self._is_closing:
                return
            self._running.add(task.id)
            begins = self._workers < min(self._threads, len(self._running))
            self._workers += begins
        self._jobs.put(task)
        if begins:
            start_thread(self._work, name="flowkit-task-run")

    def _work(self) -> None:
        try:
            while (task := self._jobs.get()) is not None and not self._is_closing:
                self._worked(task)
        finally:
            self._ended.put(None)

    def _worked(self, task: StoredObject) -> None:
        try:
            self._run(task)
        except LeaseLost:
            _log.warning("task %s: another server runs the tasks by now", task.id)
        except ServerError as error:
            _log.error("task %s could not store its run: %s", task.id, error)
        except Exception:  # noqa: BLE001 - a fault of ours must not end the thread
            _log.exception("task %s failed", task.id)
        finally:
            with self._lock:
                self._running.discard(task.id)

    def _run(self, task: StoredObject) -> None:
        started = self._clock_ms()
        now = self._store.read(lambda reader: reader.object(task.kind, task.id))
        if now is None or now.doc.get("disabled") or now.doc.get("nextRun", 0) > started:
            return  # it ran, or was changed, since it was looked at
        task = now
        brought = self._brought(task)
        run = Run(task, brought, started, self._clock_ms(), self._next(task, started), self._places)

        def job(writer: Writer) -> Brought | None:
            if not self._take_lease(writer):
                raise LeaseLost
            return store_run(writer, run)

        stored = self._store.write(job)
        if stored is None:
            return
        self._metrics.count("flowkit_task_runs_total", task.kind, stored.status)
        if stored.error:
            _log.warning("task %s: %s", task.id, stored.error)

    def _brought(self, task: StoredObject) -> Brought:
        """What the task brings; a fault of ours is an error like any other, and is reported."""
        try:
            return self._bring[task.kind](task)
        except Exception:  # noqa: BLE001 - else the task would be tried again and again
            _log.exception("task %s failed", task.id)
            return Brought("ERROR", error="the run failed; the server's log says why")

    def _next(self, task: StoredObject, started: int) -> int:
        """When a task runs again."""
        periodicity = int(task.doc["periodicity"])
        return started + periodicity + int(self._chance.random() * limits.task_jitter * periodicity)


def _tasks(reader: Reader) -> list[StoredObject]:
    """The tasks that are not disabled."""
    found = [one for kind in (*KINDS, STANDING) for one in reader.objects(kind)]
    return [task for task in found if not task.doc.get("disabled")]


def _definition(task: StoredObject) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a connection is made of: everything but what the server notes about it."""
    noted = {"status", "lastEditDate", "lastEditorId"}
    return {name: value for name, value in task.doc.items() if name not in noted}, task.state
