"""Devices and operations of provisioning, found by what the outside calls them, and counted.

Each verb is one step into an index, however many devices there are: a fleet that is switched on
asks for thousands of operations within minutes, and there is one writer.

Rules: answers are ids and numbers; the objects themselves are read by their ids.

Source: ``docs/reference/devices.rst``.
"""

from __future__ import annotations

from typing import Any

import apsw

from flowkit.server.store.schema import get_meta

__all__ = ["DEVICE_AT", "DEVICE_NAMED", "OPERATION_QUERIES", "Fleet"]

DEVICE_NAMED = (
    "SELECT id FROM object INDEXED BY device_by_name WHERE kind = 'device' AND account = ?"
    " AND lower(json_extract(doc, '$.deviceId')) = lower(?) ORDER BY id LIMIT 1"
)
DEVICE_AT = (
    "SELECT id FROM object INDEXED BY device_by_path WHERE kind = 'device' AND account = ?"
    " AND json_extract(doc, '$.path') = ? ORDER BY id LIMIT 1"
)
_OPERATIONS = "FROM object INDEXED BY {} WHERE kind = 'provisioning' AND account = ?"
_BY_NONCE = (
    f"SELECT id {_OPERATIONS.format('operation_by_nonce')}"
    " AND json_extract(state, '$.nonce') = ? ORDER BY id DESC LIMIT 1"
)
_BY_CODE = (
    f"SELECT id {_OPERATIONS.format('operation_by_code')} AND json_extract(doc, '$.code') = ?"
    " LIMIT 1"
)
_WAITING = (
    "SELECT count(*), coalesce(sum(json_extract(doc, '$.provisioningTokenId') = ?3), 0)"
    f" {_OPERATIONS.format('operation_by_end').replace('?', '?1')}"
    " AND json_extract(doc, '$.status') = 'pending' AND json_extract(doc, '$.expiresAt') > ?2"
)
_ENDED = (
    f"SELECT id {_OPERATIONS.format('operation_by_end')} AND json_extract(doc, '$.status') = ?"
    " AND json_extract(doc, '$.expiresAt') <= ? LIMIT ?"
)
_HELD = "SELECT count(*) FROM object WHERE kind = 'provisioning' AND account = ?"
_LEADING_TO = (
    f"SELECT id {_OPERATIONS.format('operation_by_end').replace('?', '?1')}"
    " AND json_extract(doc, '$.status') = 'approved'"
    " AND (json_extract(doc, '$.registeredAs') = ?2"
    " OR lower(json_extract(doc, '$.deviceId')) = lower(?3)) ORDER BY id"
)
OPERATION_QUERIES = (_BY_NONCE, _BY_CODE, _WAITING, _ENDED, _LEADING_TO)
"""The queries of one begin and of one removal, each of which an index must answer."""

_OUTLIVED = (
    "SELECT id FROM object WHERE kind = ? AND account = ? AND json_extract(doc, '$.duration') > 0"
    " AND creation_date + json_extract(doc, '$.duration') <= ?"
    " AND json_extract(state, '$.deviceId') IS NULL ORDER BY id"
)

_FIGURES = (
    "SELECT count(*) FILTER (WHERE kind = 'device'),"
    " count(*) FILTER (WHERE kind = 'device' AND json_extract(doc, '$.lastSeen') > ?1),"
    " count(*) FILTER (WHERE kind = 'provisioning' AND json_extract(doc, '$.status') = 'pending'"
    " AND json_extract(doc, '$.expiresAt') > ?2)"
    " FROM object WHERE kind IN ('device', 'provisioning')"
)


class Fleet:
    """The verbs of ``base.FleetReader`` on one connection.

    Args:
        connection: in a transaction of the caller's.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def device_named(self, account: str, device_id: str) -> str | None:
        """The device of *account* with that deviceId, whatever the case of its letters."""
        return self._first(DEVICE_NAMED, account, device_id)

    def device_at(self, account: str, path: str) -> str | None:
        """The oldest device of *account* at that path."""
        return self._first(DEVICE_AT, account, path)

    def operation_with(self, account: str, nonce_digest: str) -> str | None:
        """The newest operation that was begun with the nonce of that digest."""
        return self._first(_BY_NONCE, account, nonce_digest)

    def operation_called(self, account: str, code: str) -> str | None:
        """The operation with that code."""
        return self._first(_BY_CODE, account, code)

    def waiting(self, account: str, token_id: str, now_ms: int) -> tuple[int, int]:
        """How many operations wait: of the account, and of that provisioning token."""
        counts: Any = self._connection.execute(_WAITING, (account, now_ms, token_id)).get
        return int(counts[0]), int(counts[1])

    def ended(self, account: str, status: str, before_ms: int, limit: int) -> list[str]:
        """Some operations of that stored status whose ``expiresAt`` is not after *before_ms*."""
        found: list[Any] = self._connection.execute(
            _ENDED, (account, status, before_ms, limit)
        ).fetchall()
        return [each for (each,) in found]

    def leading_to(self, account: str, device: str, device_id: str) -> list[str]:
        """The approved operations that made that device, or may become that deviceId."""
        found: list[Any] = self._connection.execute(
            _LEADING_TO, (account, device, device_id)
        ).fetchall()
        return [each for (each,) in found]

    def outlived(self, kind: str, account: str, now_ms: int) -> list[str]:
        """The Tokens, Shares or provisioning tokens that have expired, but for those of devices."""
        found: list[Any] = self._connection.execute(_OUTLIVED, (kind, account, now_ms)).fetchall()
        return [each for (each,) in found]

    def operations(self, account: str) -> int:
        """How many operations of the account are kept."""
        return int(self._connection.execute(_HELD, (account,)).get)

    def figures(self, seen_since_ms: int, now_ms: int) -> tuple[int, int, int]:
        """How many devices there are and were seen, and operations that wait; of all accounts."""
        row: tuple[int, int, int] = self._connection.execute(_FIGURES, (seen_since_ms, now_ms)).get
        return row

    def restoration(self) -> str:
        """A text that is another one after the store was restored from a backup."""
        return str(get_meta(self._connection, "restoration") or "0")

    def _first(self, sql: str, *params: str) -> str | None:
        found: str | None = self._connection.execute(sql, params).get
        return found
