"""How much an outbox may hold, and what goes when it is full or old.

Source: positions 9 (what is dropped is settled by a skip, and counted).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from typing import Any, Literal, get_args

from flowkit.device import bounds
from flowkit.device.rows import Ledger
from flowkit.errors import OutboxError, OutboxFull, SettingsError

__all__ = ["Policy", "Room", "check_disk"]

_PAGE_BYTES = 4096

Db = sqlite3.Connection
Policy = Literal["refuse", "drop oldest", "drop by priority"]


@dataclass(frozen=True, slots=True)
class Room:
    """The bounds of one outbox.

    Args:
        path: the outbox, for messages.
        rows_max: entries, without skips and what is kept after it was settled.
        bytes_max: bytes of the same and of their payloads.
        age_max_s: seconds after which an entry is dropped; None for never.
        when_full: ``refuse`` what is put; ``drop oldest``; ``drop by priority``: the oldest of the
            lowest priority, but nothing of a higher one than what is put.

    Raises:
        SettingsError: one of them is no bound.
    """

    path: str
    rows_max: int
    bytes_max: int
    age_max_s: float | None
    when_full: Policy

    def __post_init__(self) -> None:
        """Check what was given."""
        if self.when_full not in get_args(Policy):
            named = ", ".join(map(repr, get_args(Policy)))
            raise SettingsError(f"when_full is one of {named}, not {self.when_full!r}")
        given: dict[str, Any] = {"rows_max": self.rows_max, "bytes_max": self.bytes_max}
        for name, value in given.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(f"{name} is a whole number of at least 1, not {value!r}")
        age = self.age_max_s
        if age is not None and not (isinstance(age, int | float) and age > 0):
            raise SettingsError(f"age_max_s is a number of seconds above 0, not {age!r}")

    def victims(
        self, db: Db, ledger: Ledger, count: int, size: int, priority: int
    ) -> list[tuple[int, int]]:
        """(stream's number, sequence) of what must go so that *count* entries more fit.

        Raises:
            OutboxFull: they do not fit, and nothing may go for them.
        """
        self._check(count, size)
        rows_over = ledger.count + count - self.rows_max
        bytes_over = ledger.bytes + size - self.bytes_max
        if rows_over <= 0 and bytes_over <= 0:
            return []
        chosen = []
        for row_id, stream, sequence, freed in self._candidates(db, ledger.cursor, priority):
            chosen.append((stream, sequence))
            rows_over, bytes_over = rows_over - 1, bytes_over - freed
            if self.when_full == "drop oldest":
                ledger.cursor = row_id + 1
            if rows_over <= 0 and bytes_over <= 0:
                return chosen
        self._check(ledger.count + count, ledger.bytes + size)
        raise AssertionError("what does not fit is over one of the bounds")

    def _check(self, count: int, size: int) -> None:
        for over, limit, unit in (
            (count, self.rows_max, "entries"),
            (size, self.bytes_max, "bytes"),
        ):
            if over > limit:
                raise OutboxFull(
                    f"with what was put, the outbox {self.path}", size=over, limit=limit, unit=unit
                )

    def _candidates(self, db: Db, cursor: int, priority: int) -> sqlite3.Cursor | list[Any]:
        """(id, stream, sequence, bytes) of what may go, in the order in which it goes."""
        if self.when_full == "refuse":
            return []
        if self.when_full == "drop oldest":
            return db.execute(
                "SELECT id, stream, sequence, bytes FROM row WHERE state=0 AND id>=? ORDER BY id",
                (cursor,),
            )
        return db.execute(
            "SELECT id, stream, sequence, bytes FROM row INDEXED BY row_by_priority"
            " WHERE state=0 AND priority<=? ORDER BY priority, id",
            (priority,),
        )

    def prepare(self, db: Db) -> None:
        """Make the index that dropping by priority needs."""
        if self.when_full == "drop by priority":
            db.execute(
                "CREATE INDEX IF NOT EXISTS row_by_priority ON row (priority, id) WHERE state=0"
            )

    def expired(self, db: Db, ledger: Ledger, now_ms: int) -> list[tuple[int, int]]:
        """(stream's number, sequence) of entries that are too old, the oldest of them."""
        if self.age_max_s is None:
            return []
        found = db.execute(
            "SELECT id, stream, sequence, aged_ms FROM row WHERE state=0 AND id>=? ORDER BY id"
            " LIMIT ?",
            (ledger.cursor, bounds.outbox_expire_rows_max),
        ).fetchall()
        limit = now_ms - int(self.age_max_s * 1000)
        chosen = []
        for row_id, stream, sequence, aged_ms in found:
            if aged_ms > limit:
                break
            chosen.append((stream, sequence))
            ledger.cursor = row_id + 1
        return chosen


def check_disk(db: Db, path: str, size: int) -> None:
    """Refuse to put *size* bytes where what waits could then not be sent any more.

    What is settled is first written to the log of the file, and the log is emptied into the file:
    on a disk that is full to its last byte neither can be done, and nothing ever makes room.

    Raises:
        OutboxError: the disk has too little left; ``full`` is set, and nothing was put.
    """
    with contextlib.suppress(OSError, AttributeError):  # a system that does not tell
        disk = os.statvfs(path)
        free = disk.f_bavail * disk.f_frsize
        kept = min(bounds.outbox_disk_left_bytes, disk.f_blocks * disk.f_frsize // 4)
        if free >= kept + 2 * size:  # an entry stands in the log, and then in the file
            return
        inside = db.execute("PRAGMA freelist_count").fetchone()[0] * _PAGE_BYTES
        if free + inside < kept + 2 * size:
            raise OutboxError(
                path,
                f"the disk is full: {free // 1024} KiB are left, of which "
                f"{kept // 1024} KiB stay free so that what waits can be sent",
                full=True,
            )
