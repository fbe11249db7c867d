"""DeviceFile: one SQLite file of a device, safe against power cuts, shared by threads.

Whoever writes puts a job into a queue. One of the waiting threads is the leader: it runs all jobs
that are there in one transaction and commits, so that many writers share one fsync; then it hands
the lead to one of those who came meanwhile. ``write`` returns after the commit. A job that refuses
(raises before it has changed anything) harms no other; where one fails otherwise, the transaction
is rolled back and each of the others has a transaction of its own.

The locks and the pause of the leader are taken from the standard library when this module is
imported: in a process that gevent has patched they are gevent's, else the system's, and never a
mixture, which would deadlock.

Tests can stop the process at a named moment: see ``crash_point``.

Source: positions 9; the SQLite documents on WAL, synchronous and what a failed fsync leaves behind.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import weakref
from collections import deque
from collections.abc import Callable
from threading import Lock
from time import perf_counter
from typing import Any, Final, TypeVar

from flowkit.device import bounds
from flowkit.errors import OutboxError, SettingsError, UsageError

__all__ = [
    "DeviceFile",
    "FileLock",
    "connect",
    "crash_point",
    "holder_of",
    "problem_of",
    "when_reached",
]

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

MARK: Final = b"flowkit outbox"
"""First words of a lock file: they say that the file beside it was an outbox."""

_LOST = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}


def _killer(spec: str) -> Callable[[str], None] | None:
    """What ``FLOWKIT_CRASH_POINT`` asks for: ``name`` or ``name:n``, the n-th time."""
    name, _, count = spec.partition(":")
    left = int(count or 1)

    def reached(point: str) -> None:
        nonlocal left
        left -= point == name
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached if name else None


_reached = _killer(os.environ.get("FLOWKIT_CRASH_POINT", ""))


def crash_point(name: str) -> None:
    """A moment at which a test may end this process as a power cut does.

    Free unless ``FLOWKIT_CRASH_POINT=name:n`` is in the environment (then the process kills itself
    at the n-th time), or ``when_reached`` was called. The names: ``file created``, ``set aside``,
    ``before commit``, ``after commit``, ``before close``; while sending ``before request``, ``after
    answer``; while provisioning ``operation kept``, ``registered``.
    """
    if _reached is not None:
        _reached(name)


def when_reached(call: Callable[[str], None] | None) -> None:
    """Call *call* with the name of each crash point from now on; None for never."""
    global _reached
    _reached = call


class FileLock:
    """Keeps every other outbox, also of this process, away from a file until ``release``.

    The lock is the kernel's, on a file beside it, and ends with the process. That file stays.

    Raises:
        SettingsError: another one has the file open; the message names its process if it is known.
        OutboxError: the lock file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        self._marks = False
        try:
            descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 - held until release
        except OSError as error:
            raise OutboxError(path, f"its lock cannot be opened: {error.strerror}") from error
        held = self._file.read(200)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise SettingsError(
                f"the outbox {path} is open in {_named(_pid_in(held))}",
                hint="one process has it at a time; close it there, or take a file of your own",
            ) from error
        self.marked = held.startswith(MARK)
        """Whether an outbox stood beside this lock before."""

    def mark(self) -> None:
        """Write down that the file is an outbox, and who has it."""
        self._marks = True
        os.pwrite(self._file.fileno(), b"%s %-20d\n" % (MARK, self._pid), 0)

    def release(self) -> None:
        """Let others have the file; harmless when repeated."""
        if self._marks and not self._file.closed and os.getpid() == self._pid:
            os.pwrite(self._file.fileno(), b"%s %20s\n" % (MARK, b""), 0)
        self._file.close()


def _pid_in(held: bytes) -> int | None:
    pid = held.removeprefix(MARK).strip()
    return int(pid) if pid.isdigit() else None


def _named(pid: int | None) -> str:
    if pid is None:
        return "another process"
    return "this process already" if pid == os.getpid() else f"process {pid}"


def holder_of(path: str) -> str | None:
    """Which process has the outbox at *path* open, in words; None for none.

    The lock is not tried: for that moment nobody else could have it.
    """
    try:
        with open(f"{path}.lock", "rb") as file:
            pid = _pid_in(file.read(200))
        if pid is not None:
            os.kill(pid, 0)
            return _named(pid)
    except PermissionError:
        return _named(pid)
    except OSError:
        pass
    return None


def problem_of(error: sqlite3.Error) -> str:
    """What SQLite says about a failure, without the values of the statement."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def connect(path: str, *, durable: bool = True, reads: bool = False) -> sqlite3.Connection:
    """A connection for any thread, without transactions of its own making."""
    db = sqlite3.connect(
        path,
        timeout=bounds.outbox_busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=200,
    )
    db.execute("PRAGMA trusted_schema=OFF").fetchall()
    if reads:
        db.execute("PRAGMA query_only=ON").fetchall()
    else:
        db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}").fetchall()
        db.execute(f"PRAGMA journal_size_limit={bounds.outbox_wal_bytes}").fetchall()
    return db


class _Task:
    """A job that waits for the leader, and what became of it."""

    __slots__ = ("done", "error", "gate", "gone", "job", "leads", "result")

    def __init__(self, job: Job[Any]) -> None:
        self.job = job
        self.gate = Lock()
        self.gate.acquire()
        self.done = self.leads = self.gone = False
        self.result: Any = None
        self.error: Exception | None = None


class DeviceFile:
    """An open file that exists and is sound (``opening.py`` sees to that), and its lock.

    Args:
        path: the file, absolute.
        lock: held for it; released by ``close``.
        durable: whether a commit survives a power cut; else only the end of the process.

    Attributes:
        on_rollback: called with the connection when a transaction was taken back, so that what is
            kept in memory beside the file can be read anew.
    """

    def __init__(self, path: str, lock: FileLock, *, durable: bool = True) -> None:
        self.path = path
        self.durable = durable
        self.on_rollback: Callable[[sqlite3.Connection], None] = lambda _: None
        self._file_lock = lock
        self._pid = os.getpid()
        self._guard = Lock()
        self._waiting: deque[_Task] = deque()
        self._leading = self._closed = self._doubtful = False
        self._group, self._wanted, self._commit_s = 1, 0, 0.0
        self._full = Lock()
        self._reading = Lock()
        self._writer = connect(path, durable=durable)
        self._reader = connect(path, reads=True)
        _open_files.add(self)

    def write(self, job: Job[T]) -> T:
        """Run *job* in a transaction, with those of other threads, and return after the commit.

        The job gets the connection. It runs in whichever thread leads, must not wait for anything,
        and must refuse before it changes anything.

        Raises:
            OutboxError: the file could not be written. If *full*, nothing of the job is in it.
            UsageError: the file is closed, or was opened before a fork.
        """
        self._check()
        task = _Task(job)
        with self._guard:
            if self._closed:
                raise self._ended()
            self._waiting.append(task)
            task.leads = not self._leading
            self._leading = True
            if len(self._waiting) == self._wanted:
                self._full.release()
        if not task.leads:
            self._wait(task)
        if task.leads:
            self._lead(task)
        if task.error is not None:
            raise task.error
        result: T = task.result
        return result

    def read(self, job: Job[T]) -> T:
        """Run *job* on a snapshot of what is committed, beside any commit under way.

        Raises:
            OutboxError: the file could not be read.
            UsageError: the file is closed, or was opened before a fork.
        """
        self._check()
        with self._reading:
            if self._closed:
                raise self._ended()
            try:
                self._reader.execute("BEGIN")
                try:
                    return job(self._reader)
                finally:
                    self._reader.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise OutboxError(self.path, problem_of(error)) from error

    def close(self) -> None:
        """Finish what waits, then close; harmless when repeated, and in a forked child."""
        if os.getpid() != self._pid:
            return
        last = _Task(lambda _: crash_point("before close"))
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._waiting.append(last)
            last.leads = not self._leading
            self._leading = True
        if not last.leads:
            self._wait(last)
        if last.leads:
            self._lead(last)
        with self._reading:
            self._reader.close()
            self._writer.close()
        self._file_lock.release()

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError(
                f"the outbox {self.path} was opened before this process was forked",
                hint="open one in the child, on a file of its own",
            )

    def _ended(self) -> UsageError:
        return UsageError(f"the outbox {self.path} is closed")

    def _wait(self, task: _Task) -> None:
        """Until *task* is done or leads; if this thread is interrupted, nobody waits for it."""
        try:
            task.gate.acquire()
        except BaseException:
            with self._guard:
                task.gone = True
            if task.leads:
                self._hand_over()
            raise

    def _lead(self, mine: _Task) -> None:
        """Run what waits, wake those whose jobs are done, hand the lead on.

        If this thread is interrupted, what is not done waits for the next one, except its own job.
        """
        batch: list[_Task] = []
        try:
            self._gather()
            with self._guard:
                batch.extend(self._waiting)
                self._waiting.clear()
            self._group = len(batch)
            self._run(batch)
        finally:
            with self._guard:
                left = [task for task in batch if not task.done and task is not mine]
                self._waiting.extendleft(reversed(left))
                if not mine.done and mine in self._waiting:
                    self._waiting.remove(mine)
            self._hand_over()
            for task in batch:
                if task.done and task.gate.locked():
                    task.gate.release()

    def _gather(self) -> None:
        """Give the threads that took part in the last commit a moment to come again.

        Without it, one thread and all the others would take turns, with an fsync for each turn.
        """
        with self._guard:
            if self._group < 2 or len(self._waiting) >= self._group:
                return
            self._wanted = self._group
            self._full.acquire(blocking=False)
        try:
            self._full.acquire(timeout=min(self._commit_s / 2, bounds.outbox_gather_max_s))
        finally:
            with self._guard:
                self._wanted = 0

    def _hand_over(self) -> None:
        with self._guard:
            heir = next((task for task in self._waiting if not task.gone), None)
            self._leading = heir is not None
            if heir is not None:
                heir.leads = True
                heir.gate.release()

    def _run(self, batch: list[_Task]) -> None:
        """All jobs in one transaction; if that cannot be, each in one of its own."""
        failure = self._attempt(batch)
        if failure is None or len(batch) == 1:
            for task in batch:
                task.error = task.error or self._told(failure)
                task.done = True
            return
        for task in batch:
            task.error = task.error or self._told(self._attempt([task]))
            task.done = True

    def _told(self, failure: Exception | None) -> Exception | None:
        """What the caller of ``write`` gets for *failure*."""
        if not isinstance(failure, sqlite3.Error):
            return failure
        code = getattr(failure, "sqlite_errorcode", 0)
        told = OutboxError(self.path, problem_of(failure), full=code == sqlite3.SQLITE_FULL)
        told.__cause__ = failure
        return told

    def _attempt(self, batch: list[_Task]) -> Exception | None:
        """Run and commit; what prevented it, or None. Refusals of single jobs prevent nothing."""
        began = perf_counter()
        try:
            self._mend()
            db = self._writer
            db.execute("BEGIN IMMEDIATE")
            for task in batch:
                self._do(task, db)
            crash_point("before commit")
            db.execute("COMMIT")
            crash_point("after commit")
        except Exception as error:  # noqa: BLE001 - handed to the threads whose jobs these were
            self._doubtful |= getattr(error, "sqlite_errorcode", 0) in _LOST
            self._take_back(batch)
            return error
        except BaseException:
            # An interrupt, in the thread that happens to lead. Out of a transaction that no error
            # of SQLite ended, the commit is made: nobody's job may run again.
            if self._writer.in_transaction:
                self._take_back(batch)
            else:
                for task in batch:
                    task.done = True
            raise
        self._commit_s += (perf_counter() - began - self._commit_s) / 8
        return None

    def _do(self, task: _Task, db: sqlite3.Connection) -> None:
        before = db.total_changes
        task.error = None
        try:
            task.result = task.job(db)
        except sqlite3.Error:
            raise
        except Exception as error:
            if db.total_changes != before:
                raise
            task.error = error

    def _take_back(self, batch: list[_Task]) -> None:
        for task in batch:
            task.error = None
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            self.on_rollback(self._writer)
        except sqlite3.Error:
            self._doubtful = True

    def _mend(self) -> None:
        """After a failed fsync nobody knows what the disk holds: open and check the file anew."""
        if not self._doubtful:
            return
        with self._reading:
            self._reader.close()
            self._writer.close()
            self._writer = connect(self.path, durable=self.durable)
            self._reader = connect(self.path, reads=True)
        found = self._writer.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"damaged, open it again to have it set aside: {found}")
        self.on_rollback(self._writer)
        self._doubtful = False


_open_files: weakref.WeakSet[DeviceFile] = weakref.WeakSet()
_left_alone: list[object] = []


def _forked() -> None:
    """In a forked child: the connections are the parent's, so they are neither used nor closed.

    The child's copy of the lock goes, or the file would stay locked when the parent has ended.
    """
    for file in list(_open_files):
        _left_alone.append((file._writer, file._reader))
        file._file_lock.release()


os.register_at_fork(after_in_child=_forked)
