"""Statistics: what was counted, by object, kind and hour.

What a batch counts is added up in memory and written once, with its commit: a commit of a thousand
drops costs as many statements as one of a single drop. What a failed job counted goes with it.
``Later`` takes counts that no write goes with (a read, a refused call), from any thread; the next
commit takes them along.

Rules: an object that is gone has no statistics, whatever is still counted for it.

Source: protocol 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from flowkit.green import NativeLock

__all__ = ["Counting", "Later", "statistics"]

_MS_PER_HOUR = 3_600_000

Key = tuple[str, str, int]
"""Id, kind, hour since 1970 UTC."""

READ = "SELECT hour, count FROM statistic WHERE id = ? AND kind = ? AND hour >= ? AND hour < ?"
_ADD = (
    "INSERT INTO statistic (id, kind, hour, count) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)
_HOLDERS = {"i": "identity", "f": "flow"}
"""First letter of an id to the table that it stands in; all others are in ``object``."""


def statistics(
    connection: apsw.Connection, kind: str, object_id: str, since: int, until: int
) -> dict[int, int]:
    """Counts by hour, from *since* up to, not including, *until*."""
    found: list[Any] = connection.execute(READ, (object_id, kind, since, until)).fetchall()
    return dict(found)


class Later:
    """Counts that wait for the next commit; used by any thread.

    Args:
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        wake: called when something waits after nothing has; must not wait itself.
    """

    def __init__(self, clock_ms: Callable[[], int], wake: Callable[[], None]) -> None:
        self._clock_ms = clock_ms
        self._wake = wake
        self._lock = NativeLock()
        self._waiting: dict[Key, int] = {}

    def count(self, kind: str, object_id: str) -> None:
        """Count once; never waits for long."""
        key = (object_id, kind, self._clock_ms() // _MS_PER_HOUR)
        with self._lock:
            is_first = not self._waiting
            self._waiting[key] = self._waiting.get(key, 0) + 1
        if is_first:
            self._wake()

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def waiting(self, kind: str, object_id: str) -> dict[int, int]:
        """What waits for one object, by hour."""
        with self._lock:
            return {
                hour: times
                for (waiting_id, waiting_kind, hour), times in self._waiting.items()
                if (waiting_id, waiting_kind) == (object_id, kind)
            }

    def take(self) -> dict[Key, int]:
        """All that waits; it is the caller's now."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
        return taken

    def put_back(self, taken: dict[Key, int]) -> None:
        """What could not be written waits on."""
        with self._lock:
            _add(self._waiting, taken)


class Counting:
    """What the writer counts, by job and by batch.

    Args:
        connection: in a transaction of the caller's.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        later: counts that will go with the next commit, for who asks on the writer.
    """

    def __init__(
        self, connection: apsw.Connection, clock_ms: Callable[[], int], later: Later
    ) -> None:
        self._connection = connection
        self._clock_ms = clock_ms
        self._waiting = later
        self._batch: dict[Key, int] = {}
        self._job: list[tuple[Key, int]] = []
        self._hour: int | None = None
        self._later: dict[Key, int] = {}
        self._gone_in_job: set[str] = set()
        self._gone: set[str] = set()

    def count(self, kind: str, object_id: str, times: int) -> None:
        """Count in the present job; all of one job falls into one hour."""
        if self._hour is None:
            self._hour = self._clock_ms() // _MS_PER_HOUR
        key = (object_id, kind, self._hour)
        self._batch[key] = self._batch.get(key, 0) + times
        self._job.append((key, times))

    def statistics(self, kind: str, object_id: str, since: int, until: int) -> dict[int, int]:
        """As ``statistics``, with what was counted so far and is not committed yet."""
        found = statistics(self._connection, kind, object_id, since, until)
        for hour, times in self._waiting.waiting(kind, object_id).items():
            if since <= hour < until:
                found[hour] = found.get(hour, 0) + times
        for (counted_id, counted_kind, hour), times in self._batch.items():
            if (counted_id, counted_kind) == (object_id, kind) and since <= hour < until:
                found[hour] = found.get(hour, 0) + times
        return found

    def forget(self, object_id: str) -> None:
        """An object is deleted: its statistics go, and what is still counted for it is lost."""
        self._connection.execute("DELETE FROM statistic WHERE id = ?", (object_id,))
        self._gone_in_job.add(object_id)

    def keep_job(self) -> None:
        """The job is done: what it counted stands."""
        self._job.clear()
        self._hour = None
        if self._gone_in_job:
            self._gone |= self._gone_in_job
            self._gone_in_job.clear()

    def undo_job(self) -> None:
        """The job has failed: what it counted is taken back."""
        for key, times in self._job:
            left = self._batch[key] - times
            if left:
                self._batch[key] = left
            else:
                del self._batch[key]
        self._job.clear()
        self._hour = None
        self._gone_in_job.clear()

    def write_out(self, later: Later) -> None:
        """Before a commit: add up what the batch and *later* have counted."""
        self._later = later.take()
        for key, times in self._later.items():
            if self._is_there(key[0]):
                self._batch[key] = self._batch.get(key, 0) + times
        if self._gone:
            self._batch = {key: n for key, n in self._batch.items() if key[0] not in self._gone}
            self._gone.clear()
        if self._batch:
            for key, times in self._batch.items():
                self._connection.execute(_ADD, (*key, times))
            self._batch.clear()

    def _is_there(self, object_id: str) -> bool:
        table = _HOLDERS.get(object_id[:1], "object")
        sql = f"SELECT 1 FROM {table} WHERE id = ?"
        return bool(self._connection.execute(sql, (object_id,)).fetchall())

    def forget_all(self, later: Later) -> None:
        """The batch was undone; what was counted outside of it waits for the next one."""
        later.put_back(self._later)
        self._batch.clear()
        self._job.clear()
        self._hour = None
        self._later = {}
        self._gone_in_job.clear()
        self._gone.clear()

    def committed(self) -> None:
        """What was counted is on disk."""
        self._later = {}


def _add(total: dict[Key, int], more: dict[Key, int]) -> None:
    for key, times in more.items():
        total[key] = total.get(key, 0) + times
