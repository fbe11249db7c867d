"""The answers that are kept for requests that may be repeated: for a time, and up to a size.

They go oldest first. A request that is repeated after its answer has gone is done again, so the
bound in bytes is far above what the window usually holds.

Source: protocol 3.2 (request ids).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flowkit import limits
from flowkit.server.store.rows import answer_name

if TYPE_CHECKING:
    import apsw

__all__ = ["Replays"]


class Replays:
    """Writes and forgets kept answers.

    Args:
        connection: the writer's.
        clock_ms: now, in milliseconds since 1970 UTC.
    """

    def __init__(self, connection: apsw.Connection, clock_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._clock_ms = clock_ms
        self._sweep_at_ms = 0
        self._bytes = self._counted("key > ?", 0)
        self._bytes_in_job = 0

    def keep(self, account: str, request_id: str, status: int, body: bytes) -> None:
        """Remember an answer."""
        self._connection.execute(
            "INSERT OR REPLACE INTO answer (name, at, status, body) VALUES (?, ?, ?, ?)",
            (answer_name(account, request_id), self._clock_ms(), status, body),
        )
        self._bytes_in_job += len(body)

    def keep_job(self) -> None:
        """The job is done: what it kept stays."""
        self._bytes += self._bytes_in_job
        self._bytes_in_job = 0

    def undo_job(self) -> None:
        """The job was undone."""
        self._bytes_in_job = 0

    def sweep(self) -> None:
        """Before a commit: forget what is too old, now and then, and what is too much."""
        now = self._clock_ms()
        if now >= self._sweep_at_ms:
            self._sweep_at_ms = now + int(limits.answer_sweep_s * 1000)
            since = now - int(limits.replay_window_s * 1000)
            self._bytes -= self._counted("at <= ?", since)
            self._connection.execute("DELETE FROM answer WHERE at <= ?", (since,))
        if self._bytes > limits.kept_answers_bytes_max:
            self._shrink()

    def _shrink(self) -> None:
        """Forget the oldest until a tenth of the room is free."""
        last = None
        rows = self._connection.execute("SELECT key, length(body) FROM answer ORDER BY key")
        for key, size in rows:
            if self._bytes <= 0.9 * limits.kept_answers_bytes_max:
                break
            self._bytes -= size
            last = key
        if last is not None:
            self._connection.execute("DELETE FROM answer WHERE key <= ?", (last,))

    def _counted(self, which: str, value: int) -> int:
        """Bytes of some kept answers; their lengths stand in the rows, no body is read."""
        sql = f"SELECT coalesce(sum(length(body)), 0) FROM answer WHERE {which}"
        ((total,),) = self._connection.execute(sql, (value,))
        return int(total)
