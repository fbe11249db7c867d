"""The store on a data folder: one SQLite file, one writer thread, some reader threads.

Rules: the folder is locked first; WAL, so that readers never block the writer; every opening for
writing has a new epoch (``positions`` 5).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TypeVar

import apsw

from flowkit import limits
from flowkit.errors import ServerError, SettingsError
from flowkit.green import NativeLock
from flowkit.server.store.base import Commit, Reader, Writer
from flowkit.server.store.batch import WriterSession
from flowkit.server.store.counts import Later
from flowkit.server.store.folder import FILE_NAME, FolderLock
from flowkit.server.store.migrations import migrate
from flowkit.server.store.reading import House, ReaderSession
from flowkit.server.store.schema import SCHEMA_VERSION, check_version, create_tables, open_file
from flowkit.server.store.workers import Readers, WriterThread

__all__ = ["FILE_NAME", "SqliteStore", "clock_ms", "look_into", "open_store"]

T = TypeVar("T")

_EPOCH_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def clock_ms() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def open_store(
    path: str | PathLike[str],
    *,
    synchronous: str = "FULL",
    clock_ms: Callable[[], int] = clock_ms,
    readers: int = limits.store_readers_default,
    query_timeout_s: float = limits.query_timeout_s,
    answer_bytes_max: int = limits.answer_bytes_max,
) -> SqliteStore:
    """Open the store in the data folder *path*, making both if they are not there.

    Args:
        path: the data folder.
        synchronous: ``FULL`` (a write returns after fsync), ``NORMAL``, or ``OFF`` for a store
            that is thrown away.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        readers: threads that read side by side.
        query_timeout_s: seconds that the queries of one job may take.
        answer_bytes_max: most bytes that one find may collect.

    Raises:
        SettingsError: another process holds the folder, or it holds something newer, foreign or
            broken, or the disk is full.
    """
    folder = Path(path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FolderLock(folder, since_ms=clock_ms())
    try:
        epoch = "".join(secrets.choice(_EPOCH_LETTERS) for _ in range(8))
        house = House(epoch, clock_ms, query_timeout_s, answer_bytes_max)
        return SqliteStore(folder, lock, house, synchronous=synchronous, readers=readers)
    except apsw.Error as error:
        lock.release()
        raise SettingsError(
            f"{folder / FILE_NAME} cannot be opened: {error}",
            hint="see to the file and its disk, or name another data folder",
        ) from error
    except BaseException:
        lock.release()
        raise


def look_into(path: str | PathLike[str], job: Callable[[Reader], T]) -> T:
    """Run *job* on a snapshot of a data folder that another process may have open.

    Raises:
        SettingsError: it holds no store of this version.
    """
    file = str(Path(path) / FILE_NAME)
    if not Path(file).is_file():
        raise SettingsError(f"there is no store in {path}", hint="name the data folder of a server")
    connection = open_file(file, read_only=True)
    try:
        if check_version(connection, file) < SCHEMA_VERSION:
            raise SettingsError(
                f"{file} was written by an earlier flowkit",
                hint="start its server with this one, once",
            )
        return ReaderSession(connection, House("none", clock_ms)).run(job, None)
    finally:
        connection.close()


class SqliteStore:
    """A ``base.Store`` on a data folder; made by ``open_store``."""

    def __init__(
        self, folder: Path, lock: FolderLock, house: House, *, synchronous: str, readers: int
    ) -> None:
        file = str(folder / FILE_NAME)
        writing = open_file(file, synchronous=synchronous)
        try:
            create_tables(writing, file)
            migrate(writing)
            # The folder is ours alone: whoever held a lease in it is dead.
            writing.execute("DELETE FROM lease")
            self._later = Later(house.clock_ms, self._commit_soon)
            self._session = WriterSession(writing, house, self._later)
            sessions = [
                ReaderSession(open_file(file, synchronous=synchronous, read_only=True), house)
                for _ in range(readers)
            ]
        except BaseException:
            writing.close()
            raise
        self.folder = folder
        self.epoch = house.epoch
        self._lock = lock
        self._closing = NativeLock()
        self._is_closed = False
        self._writer = WriterThread(self._session)
        # One thread is for quick reads alone, so that they do not wait until a find has ended.
        self._readers = Readers(sessions[:-1] or sessions)
        self._quick = Readers(sessions[-1:], "quick reads") if readers > 1 else self._readers

    def read(
        self, job: Callable[[Reader], T], *, timeout_s: float | None = None, quick: bool = False
    ) -> T:
        """Run *job* on a snapshot; a query beyond the time is ended and raises ``BadRequest``."""
        return (self._quick if quick else self._readers).run(job, timeout_s)

    def write(self, job: Callable[[Writer], T], *, large: bool = False) -> T:
        """Run *job* on the writer; returns once what it wrote will survive power loss."""
        return self._writer.run(job, large=large)

    def count_later(self, kind: str, object_id: str) -> None:
        """Count something that no write goes with; stored with the next commit, within a second."""
        self._later.count(kind, object_id)

    def _commit_soon(self) -> None:
        self._writer.commit_soon()

    def watch(self, flow_ids: frozenset[str]) -> None:
        """From now on, hand out the changes of these flows with each commit, and of no others."""
        self._session.watch(flow_ids)

    def on_commit(self, told: Callable[[Commit], None]) -> None:
        """Call *told* after each commit that changed anything it speaks of."""
        self._session.on_commit(told)

    def on_batch(self, told: Callable[[int, float], object]) -> None:
        """Call *told* with the number of jobs and the seconds of each commit; it must not wait."""
        self._writer.on_batch.append(told)

    def waiting(self) -> dict[str, int]:
        """How many jobs wait for a thread: ``writes``, ``reads`` and ``quick`` ones."""
        lines: dict[str, WriterThread | Readers] = {
            "writes": self._writer,
            "reads": self._readers,
            "quick": self._quick,
        }
        return {name: line.waiting() for name, line in lines.items()}

    def close(self) -> None:
        """Finish what waits, checkpoint, and release the data folder; later calls do nothing.

        Raises:
            ServerError: the file could not be checkpointed; nothing acknowledged is lost by that.
        """
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        try:
            try:
                self._readers.close()
                self._quick.close()
            finally:
                self._writer.close()
        except Exception as error:
            raise ServerError(f"The store could not be closed in order: {error}") from error
        finally:
            self._lock.release()

    def __repr__(self) -> str:
        return f"<store in {self.folder}>"
