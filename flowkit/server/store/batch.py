"""The session that the writer thread drives: batches of jobs, each one transaction.

Every job has a savepoint of its own; what it raises undoes it alone. After a commit the listeners
are told what has changed, before the writers of the batch are answered.

Rules: a commit that fails has stored nothing, in the file or in memory; after a failed fsync there
are no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import apsw

from flowkit import limits
from flowkit.errors import ServerError
from flowkit.server.ids import Ids
from flowkit.server.store.base import Commit, Writer
from flowkit.server.store.counts import Later
from flowkit.server.store.reading import House
from flowkit.server.store.schema import get_meta, set_meta
from flowkit.server.store.workers import BatchLost
from flowkit.server.store.writing import Writing

__all__ = ["WriterSession"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class WriterSession:
    """The connection that the writer drives: a transaction per batch, a savepoint per job.

    Args:
        connection: used by one thread only.
        house: what all transactions of the store share.
        later: counts that each commit takes along.
    """

    def __init__(self, connection: apsw.Connection, house: House, later: Later) -> None:
        self._connection = connection
        self._later = later
        self._listeners: list[Callable[[Commit], None]] = []
        self._last_id = str(get_meta(connection, "last_id") or "")
        node = str(get_meta(connection, "node"))
        self._ids = Ids(node, clock_ms=house.clock_ms, last=self._last_id)
        self._writing = Writing(connection, house, self._ids, later)
        self._broken: str | None = None

    def watch(self, flow_ids: frozenset[str]) -> None:
        """Hand out the changes of these flows from now on; from any thread."""
        self._writing.news.watched = flow_ids

    def on_commit(self, told: Callable[[Commit], None]) -> None:
        """Call *told* after each commit that changed anything it speaks of."""
        self._listeners.append(told)

    def begin(self) -> None:
        """Begin the transaction of a batch."""
        if self._broken:
            raise ServerError(self._broken, status=503)
        self._connection.execute("BEGIN IMMEDIATE")

    def run(self, job: Callable[[Writer], T]) -> T:
        """Run *job* in a savepoint; a job that raises leaves no trace."""
        execute = self._connection.execute
        execute("SAVEPOINT job")
        self._writing.begin_job()
        try:
            value = job(self._writing)
        except BaseException as error:
            self._undo(error)
            if isinstance(error, apsw.Error):
                raise ServerError(f"The store could not do this: {error}") from error
            raise
        execute("RELEASE job")
        self._writing.keep_job()
        return value

    def _undo(self, error: BaseException) -> None:
        """Undo the job; some errors (a full disk) have undone the whole transaction already."""
        if not self._connection.in_transaction:
            raise BatchLost from error
        self._writing.undo_job()
        self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")

    def commit(self) -> None:
        """Make the batch durable, or raise with nothing of it stored."""
        changed = self._writing.write_out(self._later)
        if self._ids.last != self._last_id:
            set_meta(self._connection, "last_id", self._ids.last)
        try:
            self._connection.execute("COMMIT")
        except apsw.IOError as error:
            if getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_FSYNC:
                raise
            # After a failed fsync the kernel may have dropped what it could not write: a later
            # commit could succeed on top of a hole. Only a new start reads what is there.
            self._broken = f"The disk failed ({error}): no writes until the server starts again"
            raise ServerError(
                f"The disk failed ({error}): whether this was stored shows at the next start"
            ) from error
        self._last_id = self._ids.last
        self._writing.committed(limits.store_flows_cached)
        if changed.sources or changed.kinds or changed.flows:
            self._tell(changed)

    def _tell(self, changed: Commit) -> None:
        for told in self._listeners:
            try:
                told(changed)
            except Exception:  # noqa: BLE001 - what is stored is stored, whoever fails at it
                _log.exception("a listener failed at a commit")

    def abandon(self) -> None:
        """Undo the batch after ``begin`` or ``commit`` failed; never raises."""
        self._writing.forget_all(self._later)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            self._broken = (
                f"A failed commit could not be undone ({error}): no writes until the next start"
            )

    def close(self) -> None:
        """Write the counts that wait, checkpoint, so that the folder holds one file, and close."""
        try:
            if self._later.is_waiting and not self._broken:
                self.begin()
                self.commit()
        finally:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.close()
