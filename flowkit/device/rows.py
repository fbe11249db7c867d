"""The rows of an outbox in its file: what waits in which stream, in which order, and how much.

``Ledger`` keeps figures in memory (streams, counts, bytes), never rows, and is changed only by the
jobs of ``DeviceFile.write``, beside the statements that it counts; what is taken back is read anew.
The functions below it only read; they take any connection, so also one that is read-only.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flowkit.device import bounds
from flowkit.device.schema import KEPT, SKIP, WAITS
from flowkit.errors import LimitError, UsageError

__all__ = [
    "Fresh",
    "Ledger",
    "Line",
    "Row",
    "fresh_message",
    "is_waiting",
    "note_failures",
    "oldest",
    "oldest_of",
    "peek",
    "piece",
    "row_at",
    "waiting",
]

Db = sqlite3.Connection


class Row(NamedTuple):
    """An entry of a stream as it waits, or the sequences of some that will not be sent.

    Attributes:
        stream: its name.
        sequence: its number in the stream, from 1.
        to: the last number that it stands for; only for skips another one than *sequence*.
        message: hexadecimal; the same whenever the row is sent.
        after: the message of the number before *sequence*; None for the first.
        entry: JSON, UTF-8; None for a skip.
        skip: why nothing is sent for these numbers; None for an entry.
        payload_bytes: the size of what lies beside the entry.
        priority: as it was put.
        made_ms: when, by the clock of the device, in milliseconds since 1970.
        attempts, error: how often sending it failed, and how the last time.
        payload: where its payload lies in the file.
    """

    stream: str
    sequence: int
    to: int
    message: str
    after: str | None
    entry: bytes | None
    skip: str | None
    payload_bytes: int
    priority: int
    made_ms: int
    attempts: int
    error: str | None
    payload: int | None


class Fresh(NamedTuple):
    """What is put: an entry with all that is known before it has a number."""

    entry: bytes
    payload: bytes | memoryview | None
    priority: int
    made_ms: int

    @property
    def bytes(self) -> int:
        """Of the entry and its payload."""
        return len(self.entry) + (len(self.payload) if self.payload is not None else 0)


class Line:
    """The figures of one stream: ``acked`` and what lies beyond it."""

    __slots__ = (
        "acked",
        "bytes",
        "count",
        "first",
        "id",
        "message",
        "name",
        "next",
        "sent",
        "skips",
    )

    def __init__(self, number: int, name: str) -> None:
        self.id = number
        self.name = name
        self.sent = self.acked = 0
        self.message: str | None = None
        self.next = 1
        self.count = self.bytes = self.skips = 0
        self.first = 0
        """The id of the first row that waits; smaller ones wait longer."""


def fresh_message() -> str:
    """The id of a message: 96 random bits."""
    return secrets.token_hex(12)


class Ledger:
    """Figures of all streams, and the statements that change rows.

    Every method that takes a connection is part of a job of ``DeviceFile.write``.
    """

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.by_id: dict[int, Line] = {}
        self.box = ""
        self.device: str | None = None
        self.instance: str | None = None
        self.count = self.bytes = 0
        self.last_id = 0
        self.cursor = 0
        """No row below this id can be dropped, so looking for the oldest begins here."""

    def load(self, db: Db) -> None:
        """Read everything anew."""
        lines: dict[str, Line] = {}
        for number, name, sent, acked, message in db.execute(
            "SELECT id, name, sent, acked, message FROM stream"
        ).fetchall():
            line = lines[name] = Line(number, name)
            line.sent, line.acked, line.message, line.next = sent, acked, message, acked + 1
        by_id = {line.id: line for line in lines.values()}
        for number, state, count, size, first, last in db.execute(
            "SELECT stream, state, count(*), sum(bytes), min(id), max(upto) FROM row"
            " GROUP BY stream, state"
        ).fetchall():
            line = by_id[number]
            if state == KEPT:
                continue
            line.next = max(line.next, last + 1)
            line.first = min(line.first or first, first)
            if state == SKIP:
                line.skips = count
            else:
                line.count, line.bytes = count, size
        meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
        self.box, self.device, self.instance = meta["box"], meta.get("device"), meta.get("instance")
        self.last_id = db.execute("SELECT coalesce(max(id), 0) FROM row").fetchone()[0]
        self.count = sum(line.count for line in lines.values())
        self.bytes = sum(line.bytes for line in lines.values())
        self.cursor = 0
        self.lines, self.by_id = lines, by_id

    def known(self, stream: str) -> Line:
        """The line of a stream that was written to before.

        Raises:
            UsageError: there is none.
        """
        line = self.lines.get(stream)
        if line is None:
            raise UsageError(f"the outbox has no stream {stream!r}")
        return line

    def check_line(self, stream: str) -> None:
        """Whether *stream* is there or may be begun.

        Raises:
            LimitError: there are as many as there may be.
        """
        if stream not in self.lines and len(self.lines) >= bounds.outbox_streams_max:
            raise LimitError(
                "the number of streams of the outbox",
                size=len(self.lines) + 1,
                limit=bounds.outbox_streams_max,
                unit="streams",
            )

    def line(self, db: Db, stream: str) -> Line:
        """The line of *stream*, begun if need be; ``check_line`` first."""
        line = self.lines.get(stream)
        if line is None:
            number = db.execute("INSERT INTO stream (name) VALUES (?)", (stream,)).lastrowid
            assert number is not None
            line = self.lines[stream] = self.by_id[number] = Line(number, stream)
        return line

    def put(self, db: Db, line: Line, fresh: Fresh, aged_ms: int) -> tuple[int, str]:
        """Add an entry at the end of *line*: its sequence and message."""
        size = fresh.bytes
        payload = None if fresh.payload is None else self.keep_payload(db, fresh.payload)
        facts = (size, fresh.priority, fresh.made_ms, aged_ms, payload)
        return self.put_again(db, line, (*facts, size - len(fresh.entry), fresh.entry))

    def put_again(self, db: Db, line: Line, facts: tuple[object, ...]) -> tuple[int, str]:
        """The same for what lies in the file already, with its payload.

        Args:
            facts: bytes, priority, made_ms, aged_ms, payload, payload_bytes, entry.
        """
        message, sequence = fresh_message(), line.next
        self.last_id += 1
        db.execute(
            "INSERT INTO row (id, stream, sequence, upto, state, attempts, message, bytes,"
            " priority, made_ms, aged_ms, payload, payload_bytes, entry)"
            " VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.last_id, line.id, sequence, sequence, message, *facts),
        )
        size = facts[0]
        assert isinstance(size, int)
        self._added(line, size)
        return sequence, message

    def _added(self, line: Line, size: int) -> None:
        if not line.count and not line.skips:
            line.first = self.last_id
        line.next += 1
        line.count += 1
        line.bytes += size
        self.count += 1
        self.bytes += size

    def keep_payload(self, db: Db, payload: bytes | memoryview) -> int:
        """Write a payload in pieces; where it lies."""
        place, step = secrets.randbits(62), bounds.outbox_piece_bytes
        view = memoryview(payload)
        db.executemany(
            "INSERT INTO piece VALUES (?, ?, ?)",
            ((place, at // step, view[at : at + step]) for at in range(0, len(view), step)),
        )
        return place

    def skip(
        self, db: Db, line: Line, sequence: int, reason: str, *, keep_payload: bool = False
    ) -> None:
        """Send nothing for the entry *sequence*, which waits.

        What may have been sent keeps its message and stands alone: the server may have it. What
        never was is joined with such skips beside it, under a new message.
        """
        row_id, size, payload = db.execute(
            "SELECT id, bytes, payload FROM row WHERE stream=? AND sequence=? AND state=?",
            (line.id, sequence, WAITS),
        ).fetchone()
        if payload is not None and not keep_payload:
            db.execute("DELETE FROM piece WHERE payload=?", (payload,))
        line.count -= 1
        line.bytes -= size
        self.count -= 1
        self.bytes -= size
        line.skips += 1
        db.execute(
            "UPDATE row SET state=?, bytes=0, payload=NULL, payload_bytes=0, entry=NULL,"
            " error=NULL, skip=? WHERE id=?",
            (SKIP, reason, row_id),
        )
        if sequence > line.sent:
            self._join(db, line, sequence, reason)

    def _join(self, db: Db, line: Line, sequence: int, reason: str) -> None:
        """Make one row of the skip at *sequence* and its like beside it, none of them ever sent."""
        beside = db.execute(
            "SELECT id, sequence, upto FROM row WHERE stream=? AND state=? AND skip=?"
            " AND sequence>? AND sequence IN (?,"
            " (SELECT max(sequence) FROM row WHERE stream=? AND sequence<?), ?)"
            " ORDER BY sequence",
            (line.id, SKIP, reason, line.sent, sequence, line.id, sequence, sequence + 1),
        ).fetchall()
        if len(beside) < 2:
            return
        keeps = beside[0][0]
        db.executemany("DELETE FROM row WHERE id=?", [(row[0],) for row in beside[1:]])
        db.execute(
            "UPDATE row SET upto=?, message=? WHERE id=?", (beside[-1][2], fresh_message(), keeps)
        )
        line.skips -= len(beside) - 1

    def settle(self, db: Db, line: Line, sequence: int, message: str, keep: int) -> int:
        """Everything up to *sequence* is done: forget it, but for the last *keep* entries.

        Returns:
            the number of entries (not skips) that were settled.
        """
        entries, size, skips = self._figures(db, line, line.acked, sequence)
        db.execute(
            "UPDATE row SET sequence=? WHERE stream=? AND state=? AND sequence<=? AND upto>?",
            (sequence + 1, line.id, SKIP, sequence, sequence),
        )
        db.execute(
            "DELETE FROM row WHERE stream=? AND state=? AND sequence<=?", (line.id, SKIP, sequence)
        )
        if keep and entries:
            db.execute(
                "UPDATE row SET state=? WHERE stream=? AND sequence<=? AND state=?",
                (KEPT, line.id, sequence, WAITS),
            )
        beyond = sequence
        if keep:
            found = db.execute(
                "SELECT sequence FROM row WHERE stream=? AND state=? AND sequence<=?"
                " ORDER BY sequence DESC LIMIT 1 OFFSET ?",
                (line.id, KEPT, sequence, keep),
            ).fetchone()
            beyond = found[0] if found else 0
        self._forget(db, line, beyond)
        line.acked, line.message = sequence, message
        line.sent = max(line.sent, sequence)
        line.count -= entries
        line.bytes -= size
        line.skips -= skips
        self.count -= entries
        self.bytes -= size
        db.execute(
            "UPDATE stream SET acked=?, message=?, sent=? WHERE id=?",
            (sequence, message, line.sent, line.id),
        )
        self.first(db, line)
        return entries

    def regain(self, line: Line, count: int, size: int) -> None:
        """Entries that were settled and kept wait again."""
        line.count += count
        line.bytes += size
        self.count += count
        self.bytes += size
        self.cursor = 0

    def _figures(self, db: Db, line: Line, after: int, upto: int) -> tuple[int, int, int]:
        """Entries, their bytes, and whole skips among the rows beyond *after*."""
        found: tuple[int, int, int] = db.execute(
            "SELECT coalesce(sum(state=0), 0), coalesce(sum(bytes), 0),"
            " coalesce(sum(state=1 AND upto<=?), 0)"
            " FROM row WHERE stream=? AND sequence>? AND sequence<=?",
            (upto, line.id, after, upto),
        ).fetchone()
        return found

    def _forget(self, db: Db, line: Line, upto: int) -> None:
        """Delete rows up to a sequence, with their payloads."""
        db.execute(
            "DELETE FROM piece WHERE payload IN (SELECT payload FROM row"
            " WHERE stream=? AND sequence<=? AND payload IS NOT NULL)",
            (line.id, upto),
        )
        db.execute("DELETE FROM row WHERE stream=? AND sequence<=?", (line.id, upto))

    def first(self, db: Db, line: Line) -> None:
        """See which row waits first now."""
        found = db.execute(
            "SELECT id FROM row WHERE stream=? AND sequence>? ORDER BY sequence LIMIT 1",
            (line.id, line.acked),
        ).fetchone()
        line.first = found[0] if found else 0

    def note_sent(self, db: Db, line: Line, upto: int) -> None:
        """Rows up to *upto* go out now: their messages are fixed."""
        if upto > line.sent:
            line.sent = upto
            db.execute("UPDATE stream SET sent=? WHERE id=?", (upto, line.id))

    def add_skip(
        self, db: Db, line: Line, span: tuple[int, int], reason: str, now: tuple[int, int]
    ) -> None:
        """Put a skip where no row is; *now* is the clock and the clock of ages."""
        self.last_id += 1
        db.execute(
            "INSERT INTO row (id, stream, sequence, upto, state, bytes, priority, made_ms, aged_ms,"
            " attempts, payload_bytes, message, skip)"
            " VALUES (?, ?, ?, ?, ?, 0, 0, ?, ?, 0, 0, ?, ?)",
            (self.last_id, line.id, *span, SKIP, *now, fresh_message(), reason),
        )
        line.skips += 1


def row_at(db: Db, line: Line, sequence: int) -> tuple[int, int, int, str] | None:
    """(sequence, upto, state, message) of the row that holds *sequence*, also if it is kept."""
    found: tuple[int, int, int, str] | None = db.execute(
        "SELECT sequence, upto, state, message FROM row WHERE stream=? AND sequence<=?"
        " ORDER BY sequence DESC LIMIT 1",
        (line.id, sequence),
    ).fetchone()
    return found if found and found[1] >= sequence else None


def peek(db: Db, stream: str, limit: int, bytes_max: int) -> Iterator[Row]:
    """The first rows of *stream* that wait, in order; always one if there is any."""
    found = db.execute("SELECT id, acked, message FROM stream WHERE name=?", (stream,)).fetchone()
    if found is None:
        return
    number, acked, after = found
    size, shown = 0, False
    for row in db.execute(
        "SELECT sequence, upto, message, entry, skip, payload_bytes, priority, made_ms, attempts,"
        " error, payload FROM row WHERE stream=? AND sequence>? ORDER BY sequence LIMIT ?",
        (number, acked, limit),
    ):
        size += len(row[3]) if row[3] is not None else 0
        if size > bytes_max and shown:
            return
        shown = True
        yield Row(stream, row[0], row[1], row[2], after, *row[3:])
        after = row[2]


def oldest(db: Db, cursor: int) -> int | None:
    """When, by the clock of ages, the first entry was put that waits, among ids from *cursor*."""
    found = db.execute(
        "SELECT aged_ms FROM row WHERE id>=? AND state=? ORDER BY id LIMIT 1", (cursor, WAITS)
    ).fetchone()
    return found[0] if found else None


def oldest_of(db: Db, stream: int) -> int | None:
    """The same for the first entry of the stream with that number."""
    found = db.execute(
        "SELECT aged_ms FROM row WHERE stream=? AND state=? ORDER BY sequence LIMIT 1",
        (stream, WAITS),
    ).fetchone()
    return found[0] if found else None


def waiting(db: Db, line: Line) -> list[tuple[int, int]]:
    """(number of the stream, sequence) of all its entries that wait."""
    return db.execute(
        "SELECT stream, sequence FROM row WHERE stream=? AND state=? ORDER BY sequence",
        (line.id, WAITS),
    ).fetchall()


def is_waiting(db: Db, line: Line, row: Row) -> bool:
    """Whether *row* is an entry that still waits under the same number and message."""
    found = db.execute(
        "SELECT message FROM row WHERE stream=? AND sequence=? AND state=?",
        (line.id, row.sequence, WAITS),
    ).fetchone()
    return found is not None and found[0] == row.message


def note_failures(db: Db, ledger: Ledger, failed: Sequence[Row], error: str) -> None:
    """One attempt more for each of these rows, and why it failed."""
    lines = ledger.lines
    db.executemany(
        "UPDATE row SET attempts=attempts+1, error=? WHERE stream=? AND sequence=? AND message=?",
        [
            (error, lines[row.stream].id, row.sequence, row.message)
            for row in failed
            if row.stream in lines
        ],
    )


def piece(db: Db, payload: int, offset: int, size: int) -> bytes:
    """Up to *size* bytes of a payload, from *offset*."""
    step = bounds.outbox_piece_bytes
    first, last = offset // step, (offset + size - 1) // step
    found = db.execute(
        "SELECT bytes FROM piece WHERE payload=? AND number BETWEEN ? AND ? ORDER BY number",
        (payload, first, last),
    ).fetchall()
    return b"".join(row[0] for row in found)[offset - first * step :][:size]


_BY_SEQUENCE = (
    "SELECT sequence, upto, message, entry, skip, payload_bytes, priority, made_ms, attempts,"
    " error, payload FROM row WHERE stream=? AND state<>? AND sequence<=?"
    " ORDER BY sequence DESC LIMIT 1"
)
_BY_MESSAGE = (
    "SELECT sequence, upto, message, entry, skip, payload_bytes, priority, made_ms, attempts,"
    " error, payload FROM row WHERE stream=? AND state<>? AND message=?"
)


def find(db: Db, line: Line, sequence: int | None, message: str) -> Row | None:
    """The row of *line* with that message that is not settled; at *sequence*, if that is known.

    A skip that was joined with others has lost the message: the range that holds the sequence is
    found then.
    """
    key: str | int
    query, key = (_BY_MESSAGE, message) if sequence is None else (_BY_SEQUENCE, sequence)
    row = db.execute(query, (line.id, KEPT, key)).fetchone()
    if row is None or (sequence is not None and row[1] < sequence):
        return None
    return Row(line.name, row[0], row[1], row[2], None, *row[3:])
