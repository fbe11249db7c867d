"""What the store knows of streams and of the messages that devices send to them.

A **feed** is what one device has sent to one stream: how many messages, and its open batch. The
**names** of its newest messages are kept, so that a message of the same name is noticed. A message
that comes in chunks is an **assembly** until it is complete.

Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

from typing import Any

import apsw
import orjson

from flowkit import limits
from flowkit.server.store.pieces import Pieces
from flowkit.server.store.values import Assembly, Feed

__all__ = ["Messages"]

_STREAM = "SELECT id FROM object WHERE kind = 'stream' AND account = ?"
_GROUP = "json_extract(doc, '$.group')"
_FEED = "number, batch, since, messages, bytes, slices, body, cut, conflicts"
_ASSEMBLY = "batch, message, body, chunks, at"


class Messages:
    """The verbs of ``base.MessageReader`` and ``base.MessageWriter``.

    Args:
        connection: in a transaction of the caller's.
        pieces: the bytes of the same connection.
    """

    def __init__(self, connection: apsw.Connection, pieces: Pieces) -> None:
        self._execute = connection.execute
        self._pieces = pieces

    def stream_id(self, account: str, group: str | None, name: str | None) -> str | None:
        """The id of a stream; no *group*: the default one, no *name*: the default of its group."""
        if group is None:
            group = self._value(
                f"SELECT {_GROUP} FROM object WHERE kind = 'stream' AND account = ?"
                " AND json_extract(doc, '$.isDefaultGroup')",
                account,
            )
            if group is None:
                return None
        by_name = "json_extract(doc, '$.name') = ?"
        named = "json_extract(doc, '$.isDefault')" if name is None else by_name
        given = (account, group) if name is None else (account, group, name)
        found: str | None = self._value(f"{_STREAM} AND {_GROUP} = ? AND {named}", *given)
        return found

    def feed(self, stream: str, device: str) -> Feed:
        """What a device has sent to a stream."""
        rows: list[Any] = self._execute(
            f"SELECT {_FEED} FROM feed WHERE stream = ? AND device = ?", (stream, device)
        ).fetchall()
        return _feed(stream, device, rows[0]) if rows else Feed(stream, device)

    def feeds(self, stream: str) -> list[Feed]:
        """What every device has sent to a stream."""
        rows: list[Any] = self._execute(
            f"SELECT device, {_FEED} FROM feed WHERE stream = ? ORDER BY device", (stream,)
        ).fetchall()
        return [_feed(stream, device, row) for device, *row in rows]

    def keep_feed(self, feed: Feed) -> None:
        """Write a feed as it is now."""
        self._execute(
            f"INSERT OR REPLACE INTO feed (stream, device, {_FEED})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                feed.stream,
                feed.device,
                feed.number,
                feed.batch,
                feed.since_ms,
                feed.messages,
                feed.bytes,
                orjson.dumps(feed.slices).decode(),
                feed.body,
                feed.is_cut,
                feed.conflicts,
            ),
        )

    def named(self, feed: Feed, name: bytes) -> bytes | None:
        """The digest of the message of that name, if it is among the newest of the feed."""
        found: bytes | None = self._value(
            "SELECT digest FROM message_name WHERE stream = ? AND device = ? AND name = ?",
            feed.stream,
            feed.device,
            name,
        )
        return found

    def keep_name(self, feed: Feed, name: bytes, digest: bytes) -> None:
        """Note a message as the newest of its feed, and forget the one that is too old by now."""
        place = (feed.stream, feed.device)
        self._execute(
            "INSERT INTO message_name (stream, device, number, name, digest)"
            " VALUES (?, ?, ?, ?, ?)",
            (*place, feed.number, name, digest),
        )
        self._execute(
            "DELETE FROM message_name WHERE stream = ? AND device = ? AND number <= ?",
            (*place, feed.number - limits.message_names_kept),
        )

    # Messages in chunks

    def assembly(self, feed: Feed, batch: str, message: str) -> Assembly | None:
        """A message that is not complete."""
        rows: list[Any] = self._execute(
            f"SELECT {_ASSEMBLY} FROM assembly WHERE stream = ? AND device = ?"
            " AND batch = ? AND message = ?",
            (feed.stream, feed.device, batch, message),
        ).fetchall()
        return Assembly(feed.device, *rows[0]) if rows else None

    def assemblies(self, stream: str, device: str | None = None) -> list[Assembly]:
        """The messages to a stream that are not complete, of one device or of all."""
        rows: list[Any] = self._execute(
            f"SELECT device, {_ASSEMBLY} FROM assembly WHERE stream = ?1"
            " AND (?2 IS NULL OR device = ?2) ORDER BY device, batch, message",
            (stream, device),
        ).fetchall()
        return [Assembly(*row) for row in rows]

    def keep_assembly(self, feed: Feed, assembly: Assembly) -> None:
        """Write a message that is not complete."""
        self._execute(
            f"INSERT OR REPLACE INTO assembly (stream, device, {_ASSEMBLY})"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                feed.stream,
                feed.device,
                assembly.batch,
                assembly.message,
                assembly.body,
                assembly.chunks,
                assembly.at_ms,
            ),
        )

    def close_assembly(self, feed: Feed, assembly: Assembly) -> None:
        """A message is complete: its body belongs to something else from now on."""
        self._execute(
            "DELETE FROM assembly WHERE stream = ? AND device = ? AND batch = ? AND message = ?",
            (feed.stream, feed.device, assembly.batch, assembly.message),
        )

    def sweep(self, feed: Feed, before_ms: int, kept: Assembly | None) -> int:
        """Give up all but *kept* to which nothing was added since then; how many."""
        there = self.assemblies(feed.stream, feed.device)
        old = [each for each in there if each.at_ms < before_ms and each != kept]
        for each in old:
            self.close_assembly(feed, each)
            self._pieces.discard(each.body)
        return len(old)

    def forget(self, object_id: str) -> None:
        """Remove what hangs on a stream or a device that is gone."""
        feeds: list[Any] = self._execute(
            "SELECT stream, device, body FROM feed WHERE stream = ?1"
            " UNION SELECT stream, device, body FROM feed WHERE device = ?1",
            (object_id,),
        ).fetchall()
        for stream, device, body in feeds:
            bodies = [each.body for each in self.assemblies(stream, device)]
            for one in [*bodies, *([body] if body is not None else [])]:
                self._pieces.discard(one)
            for table in ("assembly", "message_name", "feed"):
                self._execute(
                    f"DELETE FROM {table} WHERE stream = ? AND device = ?", (stream, device)
                )

    def _value(self, sql: str, *params: Any) -> Any:
        rows: list[Any] = self._execute(sql, params).fetchall()
        return rows[0][0] if rows else None


def _feed(stream: str, device: str, row: Any) -> Feed:
    number, batch, since, messages, size, slices, body, cut, conflicts = row
    return Feed(
        stream,
        device,
        number,
        batch,
        since,
        messages,
        size,
        orjson.loads(slices),
        body,
        bool(cut),
        conflicts,
    )
