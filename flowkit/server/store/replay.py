"""The log of changes read back from the rows that hold it, and the states at any number after V.

A row begins at ``seq`` and, once ended, ends at ``until``; so every held change is the ``seq`` of
one row, or the ``until`` of one that was deleted or evicted. A change that superseded a state ends
one row and begins another under the same number: that is where its old value stands.

Source: ``positions`` 2, 3 (rows and marks), 7.2 and 7.6 (pages, snapshots).
"""

from __future__ import annotations

import math
from typing import Any

import apsw

from flowkit.server.store.base import Change, StoredDrop, StoredFlow
from flowkit.server.store.rows import DROP_COLUMNS, drop_from_row

__all__ = ["BEGUN", "ENDED", "HELD_AT", "changes", "states"]

BEGUN = (
    f"SELECT seq, began, at, bytes, {DROP_COLUMNS} FROM drop_row"
    " WHERE flow = ? AND seq > ? ORDER BY seq LIMIT ?"
)
ENDED = (
    f"SELECT until, ended, ended_at, bytes, {DROP_COLUMNS} FROM drop_row"
    " WHERE flow = ? AND until IS NOT NULL AND until > ? ORDER BY until LIMIT ?"
)
HELD_AT = (
    f"SELECT seq, began, at, bytes, {DROP_COLUMNS} FROM drop_row"
    " WHERE flow = ? AND seq > ? AND seq <= ? AND (until IS NULL OR until > ?)"
    " ORDER BY seq LIMIT ?"
)

_ENDS = ("delete", "evict")


def changes(
    connection: apsw.Connection, flow: StoredFlow, after: int, limit: int, bytes_max: int
) -> tuple[list[Change], bool]:
    """The held changes of *flow* after that number, in order, and whether they are all.

    At most *limit*, and none more once they hold *bytes_max* bytes.
    """
    begun, begun_to = _rows(connection, BEGUN, (flow.key, after), limit, bytes_max)
    ended, ended_to = _rows(connection, ENDED, (flow.key, after), limit, bytes_max)
    begins = {row[0]: row for row in begun}
    ends = {row[0]: row for row in ended}
    # Beyond the end of a list that was cut, the other one does not tell the whole story.
    known_to = min(begun_to, ended_to)
    numbers = sorted({*begins, *(row[0] for row in ended if row[1] in _ENDS)})
    numbers = [number for number in numbers if number <= known_to]
    is_whole = known_to == math.inf and len(numbers) <= limit
    found: list[Change] = []
    size = 0
    for number in numbers[:limit]:
        if size >= bytes_max:
            return found, False
        begin, end = begins.get(number), ends.get(number)
        size += sum(row[3] for row in (begin, end) if row is not None)
        found.append(_change(flow, begin, end))
    return found, is_whole


def states(
    connection: apsw.Connection,
    flow: StoredFlow,
    span: tuple[int, int],
    limit: int,
    bytes_max: int,
) -> tuple[list[tuple[int, StoredDrop]], bool]:
    """The drops of *flow* as they were at a number, and whether they are all.

    *span* is that number and another: those with a ``seq`` after it. At most *limit*, and none more
    once they hold *bytes_max* bytes.
    """
    at, after = span
    rows, to = _rows(connection, HELD_AT, (flow.key, after, at, at), limit, bytes_max)
    return [(row[0], drop_from_row(row[4:], flow.id, flow.path)) for row in rows], to == math.inf


def _rows(
    connection: apsw.Connection, sql: str, which: tuple[Any, ...], limit: int, bytes_max: int
) -> tuple[list[Any], float]:
    """Rows up to the bounds, and the number up to which they are all of them."""
    rows: list[Any] = []
    cursor = connection.execute(sql, (*which, limit + 1))
    for row in cursor:
        if len(rows) == limit or bytes_max <= 0:
            cursor.close(True)
            return rows, rows[-1][0]
        rows.append(row)
        bytes_max -= row[3]
    return rows, math.inf


def _change(flow: StoredFlow, begin: tuple[Any, ...] | None, end: tuple[Any, ...] | None) -> Change:
    """The change of one number: the row that it began, the row that it ended, or both."""
    row = begin or end
    assert row is not None
    seq, kind, at = row[:3]
    new = drop_from_row(begin[4:], flow.id, flow.path) if begin is not None else None
    is_pass = kind == "pass"  # its row ends itself: there is no state before it
    old = drop_from_row(end[4:], flow.id, flow.path) if end is not None and not is_pass else None
    return Change(seq, kind, at, new, old)
