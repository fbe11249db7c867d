"""The marks of senders in the store, and the last ranges that each of their lines skipped.

A line is (scope, box, stream); its mark is one row, written in the transaction of what it speaks
of, and kept for ever: a forgotten mark would let a message be stored twice. It goes with its scope
alone, a device or an account. Nothing is kept in memory, so there is nothing to put back.

Source: ``positions`` 9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from flowkit import limits
from flowkit.server.store.values import LineTold, Mark, Skip

__all__ = ["Marks"]

_MARK = "SELECT sequence, message, skipped FROM mark WHERE scope = ? AND box = ? AND stream = ?"
_OF_BOX = (
    "SELECT stream, sequence, message, skipped FROM mark WHERE scope = ? AND box = ?"
    " ORDER BY stream"
)
_SKIPS = (
    "SELECT first, last, reason, at FROM skip WHERE scope = ? AND box = ? AND stream = ?"
    " ORDER BY first"
)
_SETTLE = (
    "INSERT INTO mark (scope, box, stream, sequence, message, skipped) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, box, stream) DO UPDATE SET sequence = excluded.sequence,"
    " message = excluded.message, skipped = excluded.skipped"
)
_SKIP = (
    "INSERT INTO skip (scope, box, stream, first, last, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_FORGET_SKIPS = (
    "DELETE FROM skip WHERE scope = ?1 AND box = ?2 AND stream = ?3 AND first <= (SELECT first FROM"
    " skip WHERE scope = ?1 AND box = ?2 AND stream = ?3 ORDER BY first DESC LIMIT 1 OFFSET ?4)"
)
_LINE_BYTES = 64


class Marks:
    """The verbs of ``base.MarkReader`` and ``base.MarkWriter``.

    Args:
        connection: in a transaction of the caller's.
        count: told the bytes of what is given out.
    """

    def __init__(self, connection: apsw.Connection, count: Callable[[int], None]) -> None:
        self._execute = connection.execute
        self._count = count

    def of(self, scope: str, box: str, stream: str) -> Mark:
        """The mark of a line; number 0 where nothing was ever settled."""
        found: list[Any] = self._execute(_MARK, (scope, box, stream)).fetchall()
        return Mark(*found[0]) if found else Mark()

    def of_box(self, scope: str, box: str) -> dict[str, LineTold]:
        """Stream to its mark and the ranges it skipped last, of every line of a box."""
        marks: list[Any] = self._execute(_OF_BOX, (scope, box)).fetchall()
        told: dict[str, LineTold] = {}
        for stream, *mark in marks:
            rows: list[Any] = self._execute(_SKIPS, (scope, box, stream)).fetchall()
            self._count(_LINE_BYTES + len(stream) + sum(_LINE_BYTES + len(row[2]) for row in rows))
            told[stream] = LineTold(Mark(*mark), tuple(Skip(*row) for row in rows))
        return told

    def lines(self, scope: str) -> int:
        """How many lines a scope has."""
        found: list[Any] = self._execute(
            "SELECT count(*) FROM mark WHERE scope = ?", (scope,)
        ).fetchall()
        return int(found[0][0])

    def settle(
        self, scope: str, line: tuple[str, str], mark: Mark, skips: Sequence[Skip] = ()
    ) -> None:
        """Move the mark of a line (box, stream), and note what it skipped on the way."""
        self._execute(_SETTLE, (scope, *line, mark.sequence, mark.message, mark.skipped))
        kept = limits.origin_skips_kept
        for skip in skips[-kept:]:
            row = (skip.first, skip.last, skip.reason, skip.at_ms)
            self._execute(_SKIP, (scope, *line, *row))
        if skips:
            self._execute(_FORGET_SKIPS, (scope, *line, kept))

    def forget(self, scope: str) -> None:
        """Remove every mark of a scope that is gone."""
        self._execute("DELETE FROM mark WHERE scope = ?", (scope,))
        self._execute("DELETE FROM skip WHERE scope = ?", (scope,))
