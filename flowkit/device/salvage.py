"""What can still be read of a damaged outbox, taken over into the new one.

Entries that waited and values that were kept are read from both ends of their tables, up to where
the damage is. The new file has a new box, so what the server had of them already, without an
answer having said so, is stored twice; the report of the damage says that. Payloads are taken over
if every piece of them is there.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from flowkit.device import bounds
from flowkit.device.rows import Fresh, Ledger, piece
from flowkit.device.schema import WAITS

__all__ = ["salvage"]

Db = sqlite3.Connection


def salvage(db: Db, ledger: Ledger, aside: str, now: tuple[int, int]) -> dict[str, Any]:
    """Put what can be read of the file *aside* into the new one.

    Args:
        now: the clock and the clock of ages, in milliseconds.

    Returns:
        facts for the report: how many entries and values were taken over, and how many entries had
        a payload that is not whole.
    """
    facts = {"entries": 0, "values": 0, "payloads_lost": 0}
    broken = sqlite3.connect(f"file:{_quoted(aside)}?mode=rw", uri=True, isolation_level=None)
    try:
        _copy(db, ledger, broken, facts, now[1])
    except sqlite3.Error:
        pass  # what could not be read is what the report says is lost
    finally:
        broken.close()
    return facts


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _copy(db: Db, ledger: Ledger, broken: Db, facts: dict[str, int], aged_ms: int) -> None:
    broken.execute("PRAGMA query_only=ON").fetchall()
    names: dict[int, tuple[str, int]] = {}
    for number, name, acked in _readable(broken, "stream", "id, name, acked"):
        names[number] = (name, acked)
    rows = _readable(
        broken,
        "row",
        "id, stream, sequence, state, priority, made_ms, payload, payload_bytes, entry",
    )
    for _, number, sequence, state, priority, made_ms, payload, size, entry in sorted(
        rows, key=lambda row: (row[1], row[2])
    ):
        name, acked = names.get(number, (None, 0))
        if name is None or state != WAITS or sequence <= acked or not isinstance(entry, bytes):
            continue
        held = None
        if payload is not None:
            held = _payload(broken, payload, size)
            facts["payloads_lost"] += held is None
        if payload is not None and held is None:
            continue
        ledger.put(db, ledger.line(db, name), Fresh(entry, held, priority, made_ms), aged_ms)
        facts["entries"] += 1
    for _, name, value in _readable(broken, "value", "rowid, name, json"):
        db.execute("INSERT OR REPLACE INTO value VALUES (?, ?)", (name, value))
        facts["values"] += 1
    for name, value in _readable(broken, "meta", "name, value"):
        if name in ("device", "instance"):
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
    ledger.load(db)


def _payload(broken: Db, payload: int, size: int) -> bytes | None:
    with contextlib.suppress(sqlite3.Error):
        held = piece(broken, payload, 0, max(size, 1))
        return held if len(held) == size else None
    return None


def _readable(broken: Db, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows of *table* (the first column is its key) from both ends, up to the damage."""
    seen = set()
    for order in ("ASC", "DESC"):
        for row in _until_damage(
            broken,
            f"SELECT {columns} FROM {table} NOT INDEXED"  # noqa: S608 - our own constants
            f" ORDER BY {columns.split(',')[0]} {order} LIMIT {bounds.outbox_rows_max}",
        ):
            if row[0] not in seen:
                seen.add(row[0])
                yield row


def _until_damage(broken: Db, statement: str) -> Iterator[tuple[Any, ...]]:
    with contextlib.suppress(sqlite3.Error):
        yield from broken.execute(statement)
