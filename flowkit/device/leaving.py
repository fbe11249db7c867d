"""What leaves an outbox without being sent: for room, for age, or because somebody says so; and
what comes back from the dead letters.

Each method is part of a job of ``DeviceFile.write``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from flowkit.device import letters, rows
from flowkit.device.ages import AgeClock
from flowkit.device.binding import give_back
from flowkit.device.letters import Report, count_dropped
from flowkit.device.room import Room
from flowkit.device.rows import Ledger, Row
from flowkit.errors import UsageError

__all__ = ["Leaving"]

Db = sqlite3.Connection
Place = tuple[int, int]
"""Number of a stream, and a sequence in it."""


class Leaving:
    """Takes entries out, a skip in their place, and counts those that nobody named."""

    def __init__(self, ledger: Ledger, room: Room, ages: AgeClock) -> None:
        self._ledger = ledger
        self._room = room
        self._ages = ages
        self._looked_ms = 0

    def waiting(self, db: Db, given: Iterable[Row]) -> list[Place]:
        """Those of the rows that wait as they were when they were seen, each once."""
        found: dict[Place, None] = {}
        for row in given:
            line = self._ledger.lines.get(row.stream)
            if line is not None and rows.is_waiting(db, line, row):
                found[line.id, row.sequence] = None
        return list(found)

    def take_out(self, db: Db, found: Sequence[Place], reason: str) -> int:
        """Put skips in the place of entries that wait; their number."""
        for number, sequence in found:
            self._ledger.skip(db, self._ledger.by_id[number], sequence, reason)
        if found:
            give_back(db)
        return len(found)

    def drop(self, db: Db, found: Sequence[Place], reason: str) -> list[Report]:
        """The same, counted in a report for each stream."""
        self.take_out(db, found, reason)
        counts: dict[int, int] = {}
        for number, _ in found:
            counts[number] = counts.get(number, 0) + 1
        at_ms = self._ages.wall_ms()
        return [
            count_dropped(db, self._ledger.by_id[number].name, reason, count, at_ms)
            for number, count in counts.items()
        ]

    def make_room(self, db: Db, count: int, size: int, priority: int) -> list[Report]:
        """Drop what must go so that *count* entries of *size* bytes fit.

        Raises:
            OutboxFull: nothing may go for them.
        """
        victims = self._room.victims(db, self._ledger, count, size, priority)
        return self.drop(db, victims, "dropped")

    def expired(self, db: Db) -> tuple[int, list[Report]]:
        """Drop the oldest of what is too old; how many, and the reports."""
        found = self._room.expired(db, self._ledger, self._ages.now())
        return len(found), self.drop(db, found, "expired")

    def expired_now_and_then(self, db: Db, now_ms: int) -> list[Report]:
        """The same beside a put, at most once a second."""
        if self._room.age_max_s is None or now_ms - self._looked_ms < 1000:
            return []
        self._looked_ms = now_ms
        return self.expired(db)[1]

    def take(
        self, db: Db, streams: Sequence[str], limit: int, bytes_max: int
    ) -> tuple[str, dict[str, list[Row]]]:
        """The first rows of these streams, as many as are within both bounds, noted as sent."""
        taken: dict[str, list[Row]] = {}
        for name in streams:
            found = list(rows.peek(db, name, limit, bytes_max)) if limit > 0 < bytes_max else []
            if not found:
                continue
            self._ledger.note_sent(db, self._ledger.known(name), found[-1].to)
            taken[name] = found
            limit -= len(found)
            bytes_max -= sum(len(row.entry or b"") for row in found)
        return self._ledger.box, taken

    def bury(self, db: Db, row: Row, error: str) -> list[Report]:
        """Put an entry that waits to the dead letters.

        Raises:
            UsageError: it does not wait any more.
        """
        line = self._ledger.known(row.stream)
        if not rows.is_waiting(db, line, row):
            raise UsageError(f"entry {row.sequence} of {row.stream!r} is not waiting")
        told = letters.bury(db, self._ledger, line, row, (error, self._ages.wall_ms()))
        self._ledger.skip(db, line, row.sequence, "refused", keep_payload=True)
        return told

    def come_back(
        self, db: Db, letter: int | None
    ) -> tuple[list[tuple[str, int, str]], list[Report]]:
        """Put a dead letter, or all of them, at the end of their streams: stream, number, message.

        Raises:
            UsageError: there is no such letter. OutboxFull: there is no room for it.
        """
        put, told, now_ms = [], list[Report](), self._ages.now()
        for found in letters.named(db, letter):
            self._ledger.check_line(found.stream)
            told += self.make_room(db, 1, found.facts[0], found.facts[1])
            line = self._ledger.line(db, found.stream)
            put.append((found.stream, *self._ledger.put_again(db, line, found.facts_aged(now_ms))))
            letters.remove(db, found.id, with_payload=False)
        return put, told
