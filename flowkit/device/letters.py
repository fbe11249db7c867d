"""Dead letters (entries that a server refused for good) and reports (what became of others).

The functions that only read take any connection, so also one that is read-only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from flowkit.device import bounds
from flowkit.device.rows import Ledger, Line, Row
from flowkit.errors import UsageError

__all__ = [
    "DeadLetter",
    "Named",
    "Report",
    "bury",
    "count_dropped",
    "dead",
    "named",
    "payload_place",
    "remove",
    "report",
    "reports",
]

Db = sqlite3.Connection


class DeadLetter(NamedTuple):
    """An entry that was refused for good, kept until it is put again or discarded.

    Attributes:
        id: names it for ``requeue`` and ``discard``.
        stream, sequence, message, box: what it was sent as.
        entry: JSON, UTF-8.
        error: what the server said.
        payload_bytes: the size of what lies beside the entry.
        priority: as it was put.
        made_ms, died_ms: by the clock of the device, in milliseconds since 1970.
        attempts: how often it was tried.
    """

    id: int
    stream: str
    sequence: int
    message: str
    box: str
    entry: bytes
    error: str
    payload_bytes: int
    priority: int
    made_ms: int
    died_ms: int
    attempts: int


class Report(NamedTuple):
    """Something that the owner of the device should know, kept in the file.

    Attributes:
        kind: ``forked``, ``hole``, ``went back``, ``set aside``, ``dropped``, ``discarded``,
            ``rebound``, and ``dead``, which is told but not kept: ``dead()`` lists those.
        at_ms: when, by the clock of the device; of counts: when it happened last.
        facts: what is known about it.
    """

    kind: str
    at_ms: int
    facts: Mapping[str, Any]


class Named(NamedTuple):
    """A dead letter as ``requeue`` takes it: bytes, priority, made_ms, payload, its size, entry."""

    id: int
    stream: str
    facts: tuple[Any, ...]

    def facts_aged(self, aged_ms: int) -> tuple[Any, ...]:
        """The facts of a row that is put at *aged_ms*."""
        return (*self.facts[:3], aged_ms, *self.facts[3:])


def bury(db: Db, ledger: Ledger, line: Line, row: Row, said: tuple[str, int]) -> list[Report]:
    """Copy the entry *row* of *line*, which waits, to the dead letters.

    Args:
        said: what the server said, and when, in milliseconds since 1970.
    """
    error, died_ms = said
    db.execute(
        "INSERT INTO dead (stream, box, sequence, message, priority, made_ms, died_ms, attempts,"
        " payload, payload_bytes, error, entry)"
        " SELECT ?, ?, sequence, message, priority, made_ms, ?, attempts + 1,"
        " payload, payload_bytes, ?, entry FROM row WHERE stream=? AND sequence=?",
        (line.name, ledger.box, died_ms, error, line.id, row.sequence),
    )
    told = [Report("dead", died_ms, {"stream": line.name, "message": row.message, "error": error})]
    for letter in db.execute(
        "SELECT id, stream, message FROM dead ORDER BY id DESC LIMIT -1 OFFSET ?",
        (bounds.outbox_dead_max,),
    ).fetchall():
        remove(db, letter[0], with_payload=True)
        facts = {"stream": letter[1], "message": letter[2], "reason": "too many dead letters"}
        told.append(report(db, "discarded", died_ms, facts))
    return told


def named(db: Db, letter: int | None) -> list[Named]:
    """The dead letter of that id, or all of them.

    Raises:
        UsageError: there is none of that id.
    """
    found = db.execute(
        "SELECT id, stream, length(entry) + payload_bytes, priority, made_ms, payload,"
        " payload_bytes, entry FROM dead WHERE ? IS NULL OR id=? ORDER BY id",
        (letter, letter),
    ).fetchall()
    if letter is not None and not found:
        raise UsageError(f"there is no dead letter {letter!r}")
    return [Named(row[0], row[1], row[2:]) for row in found]


def dead(db: Db) -> list[DeadLetter]:
    """All dead letters, the first to die first."""
    found = db.execute(
        "SELECT id, stream, sequence, message, box, entry, error, payload_bytes, priority, made_ms,"
        " died_ms, attempts FROM dead ORDER BY id"
    )
    return [DeadLetter(*row) for row in found]


def payload_place(db: Db, letter: int) -> int | None:
    """Where the payload of a dead letter lies; None without one, or without the letter."""
    found = db.execute("SELECT payload FROM dead WHERE id=?", (letter,)).fetchone()
    return None if found is None else found[0]


def remove(db: Db, letter: int, *, with_payload: bool) -> None:
    """Take a dead letter out of the file."""
    if with_payload:
        db.execute(
            "DELETE FROM piece WHERE payload IN"
            " (SELECT payload FROM dead WHERE id=? AND payload IS NOT NULL)",
            (letter,),
        )
    db.execute("DELETE FROM dead WHERE id=?", (letter,))


def report(db: Db, kind: str, at_ms: int, facts: Mapping[str, Any]) -> Report:
    """Write a report; the oldest goes where there are too many."""
    db.execute(
        "INSERT INTO report (at_ms, kind, facts) VALUES (?, ?, ?)",
        (at_ms, kind, json.dumps(facts)),
    )
    db.execute(
        "DELETE FROM report WHERE about IS NULL AND id <= (SELECT id FROM report"
        " WHERE about IS NULL ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (bounds.outbox_reports_max,),
    )
    return Report(kind, at_ms, facts)


def count_dropped(db: Db, stream: str, reason: str, count: int, at_ms: int) -> Report:
    """Add to the one report that counts what was dropped of *stream* for *reason*."""
    about = json.dumps([stream, reason])
    found = db.execute("SELECT id, facts FROM report WHERE about=?", (about,)).fetchone()
    before = json.loads(found[1]) if found else {"count": 0, "first_ms": at_ms}
    facts = {"stream": stream, "reason": reason, **before, "count": before["count"] + count}
    if found:
        db.execute(
            "UPDATE report SET at_ms=?, facts=? WHERE id=?", (at_ms, json.dumps(facts), found[0])
        )
    else:
        db.execute(
            "INSERT INTO report (at_ms, kind, about, facts) VALUES (?, 'dropped', ?, ?)",
            (at_ms, about, json.dumps(facts)),
        )
    return Report("dropped", at_ms, facts)


def reports(db: Db) -> list[Report]:
    """All reports, the oldest first."""
    found = db.execute("SELECT kind, at_ms, facts FROM report ORDER BY id")
    return [Report(kind, at_ms, json.loads(facts)) for kind, at_ms, facts in found]
