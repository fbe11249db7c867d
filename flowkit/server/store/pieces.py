"""Bytes in pieces: uploads that are not finished, and payloads that are no elements.

A **body** is a list of numbered pieces. A piece is written once and never changed, so its key,
which never comes back, stands for its bytes; it may be in several bodies, and goes with the last of
them: joining bodies copies no bytes. An **upload** is a body that a sender is still filling, found
by (scope, box, message). A **payload** is a body that belongs to a drop and goes with the
last state of it that is held (``changes.py`` sees to that).

Source: ``positions`` 9 (sender's rule 6); ``docs/reference/sending.rst``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from flowkit.server.store.values import Payload, Unfinished

__all__ = ["Pieces"]

_SWEPT_AT_ONCE = 4
"""Old uploads that one write gives back: so many that they never grow in number."""

_SHARED_BYTES_MAX = 16_384
"""Largest piece that small parts share: as much is written again with each of them."""

_REMOVE = (
    "DELETE FROM piece WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM body_piece WHERE piece = ?1)"
)
_OLD = "SELECT scope, box, message FROM upload WHERE at < ? ORDER BY at LIMIT ?"
_PAYLOAD = (
    "SELECT id, flow_id, body, bytes, content_type FROM payload JOIN body ON key = body"
    " WHERE id = ?"
)


class Pieces:
    """The verbs of ``base.PieceReader`` and ``base.PieceWriter``.

    Args:
        connection: in a transaction of the caller's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._last_key = connection.last_insert_rowid

    # Bodies

    def size(self, body: int) -> int:
        """How many bytes a body has; 0 for none."""
        return int(self._value("SELECT bytes FROM body WHERE key = ?", body) or 0)

    def sizes(self, body: int) -> list[int]:
        """The bytes of each piece by its number, 0 for one that is not there."""
        rows: list[Any] = self._execute(
            "SELECT n, bytes FROM body_piece WHERE body = ? ORDER BY n", (body,)
        ).fetchall()
        found = [0] * (rows[-1][0] + 1 if rows else 0)
        for n, size in rows:
            found[n] = size
        return found

    def read(self, body: int, offset: int, size: int) -> bytes:
        """At most *size* bytes of a body from *offset* on."""
        found = bytearray()
        at = 0
        rows: list[Any] = self._execute(
            "SELECT piece, bytes FROM body_piece WHERE body = ? ORDER BY n", (body,)
        ).fetchall()
        for key, length in rows:
            if at < offset + size and at + length > offset:
                first = max(offset - at, 0)
                found += self.piece(key)[first : first + size - len(found)]
            at += length
        return bytes(found)

    def keys(self, body: int) -> tuple[int, ...]:
        """The keys of a body's pieces, in their order: who knows them knows all its bytes."""
        rows: list[Any] = self._execute(
            "SELECT piece FROM body_piece WHERE body = ? ORDER BY n", (body,)
        ).fetchall()
        return tuple(key for (key,) in rows)

    def piece(self, key: int) -> bytes:
        """The bytes of a piece, empty if it is gone."""
        return bytes(self._value("SELECT data FROM piece WHERE key = ?", key) or b"")

    def begin(self) -> int:
        """A new body without bytes."""
        self._execute("INSERT INTO body (bytes) VALUES (0)")
        return self._last_key()

    def append(self, body: int, data: bytes) -> None:
        """Put *data* behind what a body has; small parts share a piece.

        A body of many small ones, such as a day of readings, is then read and removed in no time.
        """
        if not data:
            return
        rows: list[Any] = self._execute(
            "SELECT n, piece, bytes FROM body_piece WHERE body = ? ORDER BY n DESC LIMIT 1", (body,)
        ).fetchall()
        last, key, held = rows[0] if rows else (-1, 0, _SHARED_BYTES_MAX)
        if held + len(data) <= _SHARED_BYTES_MAX:
            self.set_piece(body, last, self.piece(key) + data)
        else:
            self.set_piece(body, last + 1, data)

    def move(self, body: int, target: int) -> None:
        """Put what a body has behind what another one has; nothing is left of the first."""
        self.copy(body, target)
        self.discard(body)

    def copy(self, body: int, target: int) -> None:
        """Put what a body has behind what another one has: the pieces are in both then."""
        last = self._value("SELECT max(n) FROM body_piece WHERE body = ?", target)
        self._execute(
            "INSERT INTO body_piece (body, n, piece, bytes)"
            " SELECT ?1, n + ?2, piece, bytes FROM body_piece WHERE body = ?3",
            (target, 0 if last is None else last + 1, body),
        )
        self._execute("UPDATE body SET bytes = bytes + ? WHERE key = ?", (self.size(body), target))

    def set_piece(self, body: int, n: int, data: bytes) -> None:
        """Make *data* the piece *n* of a body, whatever was there."""
        rows: list[Any] = self._execute(
            "SELECT piece, bytes FROM body_piece WHERE body = ? AND n = ?", (body, n)
        ).fetchall()
        old, held = rows[0] if rows else (None, 0)
        self._execute("INSERT INTO piece (data) VALUES (?)", (data,))
        self._execute(
            "INSERT OR REPLACE INTO body_piece (body, n, piece, bytes) VALUES (?, ?, ?, ?)",
            (body, n, self._last_key(), len(data)),
        )
        self._execute("UPDATE body SET bytes = bytes + ? WHERE key = ?", (len(data) - held, body))
        if old is not None:
            self._execute(_REMOVE, (old,))

    def discard(self, body: int) -> None:
        """Remove a body that belongs to nothing any more, and the pieces that no other has."""
        keys = self.keys(body)
        self._execute("DELETE FROM body_piece WHERE body = ?", (body,))
        self._execute("DELETE FROM body WHERE key = ?", (body,))
        for key in keys:
            self._execute(_REMOVE, (key,))

    # Uploads

    def upload(self, scope: str, box: str, message: str) -> int | None:
        """The body of an upload; None if nothing of it came."""
        found: int | None = self._value(
            "SELECT body FROM upload WHERE scope = ? AND box = ? AND message = ?",
            scope,
            box,
            message,
        )
        return found

    def unfinished(self, scope: str) -> Unfinished:
        """How many uploads of a scope are not finished, and their bytes."""
        found: list[Any] = self._execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM upload JOIN body ON key = body"
            " WHERE scope = ?",
            (scope,),
        ).fetchall()
        return Unfinished(*found[0])

    def open_upload(self, scope: str, box: str, message: str, at_ms: int) -> int:
        """The body of an upload, begun if there is none; it counts as used at *at_ms*."""
        body = self.upload(scope, box, message)
        if body is None:
            body = self.begin()
        self._execute(
            "INSERT INTO upload (scope, box, message, body, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (scope, box, message) DO UPDATE SET at = excluded.at",
            (scope, box, message, body, at_ms),
        )
        return body

    def close_upload(self, scope: str, box: str, message: str) -> None:
        """An upload is finished: its body belongs to something else from now on."""
        self._execute(
            "DELETE FROM upload WHERE scope = ? AND box = ? AND message = ?", (scope, box, message)
        )

    def sweep(self, before_ms: int) -> int:
        """Remove some uploads that nobody has touched since *before_ms*; how many."""
        rows: list[Any] = self._execute(_OLD, (before_ms, _SWEPT_AT_ONCE)).fetchall()
        for row in rows:
            self.drop_upload(*row)
        return len(rows)

    def forget(self, scope: str) -> None:
        """Remove every upload of a scope that is gone."""
        rows: list[Any] = self._execute(
            "SELECT scope, box, message FROM upload WHERE scope = ?", (scope,)
        ).fetchall()
        for row in rows:
            self.drop_upload(*row)

    def drop_upload(self, scope: str, box: str, message: str) -> None:
        """Remove an upload, if there is one, that no entry will claim any more."""
        body = self.upload(scope, box, message)
        if body is not None:
            self.close_upload(scope, box, message)
            self.discard(body)

    # Payloads

    def payload(self, payload_id: str) -> Payload | None:
        """The payload with that id."""
        rows: list[Any] = self._execute(_PAYLOAD, (payload_id,)).fetchall()
        return Payload(*rows[0]) if rows else None

    def keep_payload(
        self, payload_id: str, flow_id: str, drop_id: str, body: int, content_type: str | None
    ) -> None:
        """Give a body to a drop, with whose last state it goes."""
        self._execute(
            "INSERT INTO payload (id, flow, flow_id, drop_id, body, content_type)"
            " SELECT ?1, key, id, ?3, ?4, ?5 FROM flow WHERE id = ?2",
            (payload_id, flow_id, drop_id, body, content_type),
        )
        held = self._value(
            "SELECT 1 FROM drop_row JOIN flow ON flow.key = drop_row.flow"
            " WHERE flow.id = ? AND drop_row.id = ? LIMIT 1",
            flow_id,
            drop_id,
        )
        if not held:  # a flow that keeps nothing
            self._execute("DELETE FROM payload WHERE id = ?", (payload_id,))
            self.discard(body)

    def has_payloads(self, flow_key: int) -> bool:
        """Whether any drop of a flow has one."""
        return bool(self._value("SELECT 1 FROM payload WHERE flow = ? LIMIT 1", flow_key))

    def forget_payloads(self, flow_key: int, drop_ids: Iterable[str]) -> None:
        """Remove those of the drops of which no state is held any more."""
        for drop_id in set(drop_ids):
            rows: list[Any] = self._execute(
                "SELECT id, body FROM payload WHERE flow = ?1 AND drop_id = ?2"
                " AND NOT EXISTS (SELECT 1 FROM drop_row WHERE flow = ?1 AND id = ?2)",
                (flow_key, drop_id),
            ).fetchall()
            self._remove_payloads(rows)

    def forget_flow(self, flow_key: int) -> None:
        """Remove those of a flow that is gone."""
        rows: list[Any] = self._execute(
            "SELECT id, body FROM payload WHERE flow = ?", (flow_key,)
        ).fetchall()
        self._remove_payloads(rows)

    def _remove_payloads(self, rows: list[Any]) -> None:
        for payload_id, body in rows:
            self._execute("DELETE FROM payload WHERE id = ?", (payload_id,))
            self.discard(body)

    def _value(self, sql: str, *params: Any) -> Any:
        rows: list[Any] = self._execute(sql, params).fetchall()
        return rows[0][0] if rows else None
