"""The threads of the store: one that writes and some that read, and the queues before them.

This is the one place where blocking calls leave the event loop. Callers (greenlets or plain
threads) wait on a ``Cell``; a job runs on a native thread, from start to end, and must not touch
gevent.

Group commit: the writer takes whatever waits as one batch, runs each job in a savepoint of its own,
commits once, and only then answers all of them. A job that raises is undone alone and its caller
gets the error at the end of the batch as well. If the commit fails, every job of the batch fails:
nothing of it was stored.

A large job has a batch of its own, behind the small ones that wait; after it the small ones that
have come meanwhile are next. So a small one waits for one large job at most, however many wait,
and a large one waits for one batch of small ones before each that came before it.

The threads know nothing of SQL: they drive a ``WriteSession`` and ``ReadSession`` each.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty
from typing import Any, Protocol, TypeVar

from flowkit import limits
from flowkit.errors import ServerError
from flowkit.green import Cell, NativeLock, NativeQueue, monotonic, start_thread

__all__ = ["BatchLost", "ReadSession", "Readers", "WriteSession", "WriterThread"]

T = TypeVar("T")

_SOON = object()
"""In the writer's line: something waits in memory for a commit."""

_Entry = tuple[Callable[[Any], Any], "Cell[Any]"]
"""A job of the writer, and where its caller waits."""

_log = logging.getLogger(__name__)


class WriteSession(Protocol):
    """One connection that writes; used by one thread only."""

    def begin(self) -> None:
        """Begin the transaction of a batch."""

    def run(self, job: Callable[[Any], Any]) -> Any:
        """Run *job* in a savepoint; what it raises comes out after it has been undone.

        Raises:
            BatchLost: the whole transaction went with it.
        """

    def commit(self) -> None:
        """Make the batch durable, or raise with nothing of it stored."""

    def abandon(self) -> None:
        """Undo the batch after ``begin`` or ``commit`` failed; never raises."""

    def close(self) -> None:
        """Checkpoint and close."""


class ReadSession(Protocol):
    """One connection that reads; used by one thread only."""

    def run(self, job: Callable[[Any], Any], timeout_s: float | None) -> Any:
        """Run *job* on a snapshot of its own."""

    def close(self) -> None:
        """Close."""


class BatchLost(Exception):
    """The transaction of a batch is gone; the cause is what the session ran into."""


class _Line:
    """A queue of bounded length that can be closed; any number of threads on both sides.

    Args:
        what: the kind of jobs in it, for errors.
        jobs_max: how many may wait.
    """

    def __init__(self, what: str, jobs_max: int) -> None:
        self._what = what
        self._jobs_max = jobs_max
        self._queue: Any = NativeQueue()
        self._lock = NativeLock()
        self._closed = False
        self.get: Callable[..., Any] = self._queue.get
        self.is_empty: Callable[[], bool] = self._queue.empty
        self.waiting: Callable[[], int] = self._queue.qsize

    def put(self, entry: object) -> None:
        """Let *entry* wait for a thread.

        Raises:
            ServerError: 503, the store is closed or has too much to do.
        """
        with self._lock:
            if self._closed:
                raise ServerError("The store is closed", status=503)
            if self._queue.qsize() >= self._jobs_max:
                raise ServerError(
                    f"The store is busy: {self._jobs_max} {self._what} wait already",
                    status=503,
                    retry_after_s=1.0,
                )
            self._queue.put(entry)

    def nudge(self, word: object) -> None:
        """Let *word* wait, however many do; nothing happens once the line is closed."""
        with self._lock:
            if not self._closed:
                self._queue.put(word)

    def close(self, last_words: Sequence[object]) -> None:
        """Refuse further entries and put *last_words* at the end; later calls do nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for word in last_words:
                    self._queue.put(word)


class WriterThread:
    """The one writer.

    Args:
        session: driven by this thread alone, closed by it at the end.
        jobs_max: jobs that may wait.
        batch_jobs_max, batch_time_s: bounds of one batch.
    """

    def __init__(
        self,
        session: WriteSession,
        *,
        jobs_max: int = limits.store_queue_jobs_max,
        batch_jobs_max: int = limits.store_batch_jobs_max,
        batch_time_s: float = limits.store_batch_time_s,
    ) -> None:
        self._session = session
        self._line = _Line("writes", jobs_max)
        self.waiting = self._line.waiting
        self._batch_jobs_max = batch_jobs_max
        self._batch_time_s = batch_time_s
        self._commit_at: float | None = None
        self.on_batch: list[Callable[[int, float], object]] = []
        self._ended: Cell[None] = Cell()
        start_thread(self._loop, name="flowkit-writer")

    def run(self, job: Callable[[Any], T], *, large: bool = False) -> T:
        """Run *job*; returns after the commit that holds it, waiting meanwhile.

        Raises:
            ServerError: the store is closed, has too much to do, or could not commit.
            Exception: whatever *job* raised; nothing of it was stored.
        """
        cell: Cell[T] = Cell()
        self._line.put((job, cell, large))
        return cell.get()

    def commit_soon(self) -> None:
        """Commit within ``store_later_s``, whether or not a job comes; never waits."""
        self._line.nudge(_SOON)

    def close(self) -> None:
        """Finish what waits, then close the session; returns when that is done."""
        self._line.close([None])
        self._ended.get()

    def _loop(self) -> None:
        taken: deque[_Entry] = deque()
        large: deque[_Entry] = deque()
        is_open = True
        while is_open or taken or large:
            if is_open:
                is_open = self._take(taken, large)
            if taken or (self._commit_at is not None and not large):
                self._batch(taken)
            if large:
                self._batch(deque([large.popleft()]))
        _close(self._session, self._ended)

    def _take(self, taken: deque[_Entry], large: deque[_Entry]) -> bool:
        """Move what waits to *taken* and *large*; False at the end of the line.

        It waits while there is nothing in them, until it is time for a commit without a job.
        """
        line, most = self._line, self._batch_jobs_max
        while not (there := len(taken) + len(large)) or (there < most and not line.is_empty()):
            try:
                entry = line.get(True, self._left_s())
            except Empty:
                return True
            if entry is None:
                return False
            if entry is not _SOON:
                job, cell, is_large = entry
                (large if is_large else taken).append((job, cell))
            elif self._commit_at is None:
                self._commit_at = monotonic() + limits.store_later_s
        return True

    def _left_s(self) -> float | None:
        """Seconds to the commit without a job; None if there is none to be."""
        return None if self._commit_at is None else max(0.0, self._commit_at - monotonic())

    def _batch(self, taken: deque[_Entry]) -> None:
        """Run and commit the first of *taken*, as many as the bounds allow, and answer them."""
        run = self._session.run
        self._commit_at = None
        begun = monotonic()
        until = begun + self._batch_time_s
        done: list[tuple[Cell[Any], BaseException | None, Any]] = []
        try:
            self._session.begin()
            while taken and len(done) < self._batch_jobs_max:
                job, cell = taken.popleft()
                done.append((cell, None, None))
                try:
                    done[-1] = (cell, None, run(job))
                except BatchLost:
                    raise
                except BaseException as error:  # noqa: BLE001 - the job's caller gets it
                    done[-1] = (cell, error, None)
                if monotonic() >= until:
                    break
            self._session.commit()
        except Exception as error:  # noqa: BLE001 - the callers of the batch get it
            done = self._lose(error, done, taken)
        for cell, failure, value in done:
            if failure is None:
                cell.set(value)
            else:
                cell.fail(failure)
        for told in self.on_batch:
            told(len(done), monotonic() - begun)

    def _lose(
        self, error: Exception, done: list[Any], taken: deque[Any]
    ) -> list[tuple[Cell[Any], BaseException | None, Any]]:
        """Undo a batch that could not be committed; every job that ran in it has failed."""
        self._session.abandon()
        if not done:  # not even begun: whoever waits would fare no better
            done = [(cell, None, None) for _, cell in taken]
            taken.clear()
        cause = error.__cause__ if isinstance(error, BatchLost) else error
        _log.error("a commit of %d writes failed: %s", len(done), cause)
        said, status = (
            f"The store could not write this to disk, nothing of it was stored: {cause}",
            500,
        )
        if isinstance(cause, ServerError):
            said, status = cause.errors[0], cause.status  # the session knows better
        return [(cell, ServerError(said, status=status), None) for cell, _, _ in done]


class Readers:
    """Threads that read side by side, taking jobs from one line.

    Args:
        sessions: one for each thread; driven and closed by it alone.
        what: the kind of jobs, for errors and names of threads.
        jobs_max: jobs that may wait.
        wait_s: seconds that one may wait; longer, and it is refused instead of run.
    """

    def __init__(
        self,
        sessions: Sequence[ReadSession],
        what: str = "reads",
        *,
        jobs_max: int = limits.store_queue_jobs_max,
        wait_s: float = limits.store_read_wait_s,
    ) -> None:
        self._wait_s = wait_s
        self._line = _Line(what, jobs_max)
        self.waiting = self._line.waiting
        self._ended: list[Cell[None]] = [Cell() for _ in sessions]
        for number, session in enumerate(sessions):
            name = f"flowkit-{what}-{number}"
            start_thread(self._loop, session, self._ended[number], name=name)

    def run(self, job: Callable[[Any], T], timeout_s: float | None = None) -> T:
        """Run *job* on a snapshot, waiting meanwhile.

        Raises:
            ServerError: the store is closed or has too much to do.
            Exception: whatever *job* raised.
        """
        cell: Cell[T] = Cell()
        self._line.put((job, timeout_s, cell, monotonic() + self._wait_s))
        return cell.get()

    def close(self) -> None:
        """Finish what waits, then close the sessions; returns when that is done."""
        self._line.close([None] * len(self._ended))
        for ended in self._ended:
            ended.get()

    def _loop(self, session: ReadSession, ended: Cell[None]) -> None:
        get = self._line.get
        while (entry := get()) is not None:
            job, timeout_s, cell, until = entry
            try:
                if monotonic() > until:
                    raise ServerError(
                        f"The store is busy: this read waited more than {self._wait_s:g} s",
                        status=503,
                        retry_after_s=1.0,
                    )
                cell.set(session.run(job, timeout_s))
            except BaseException as error:  # noqa: BLE001 - the job's caller gets it
                cell.fail(error)
            del entry, job, cell  # a waiting thread must not keep the last answer alive
        _close(session, ended)


def _close(session: WriteSession | ReadSession, ended: Cell[None]) -> None:
    try:
        session.close()
    except Exception as error:  # noqa: BLE001 - the closing caller gets it
        ended.fail(error)
    else:
        ended.set(None)
