"""How the payload of a row reaches the platform: in its entry, or before it in pieces.

A small payload stands in its entry, as Base64. A large one goes ahead, piece by piece, under the
row's message; pieces have no number in any stream, may be repeated, and what is there already is
not sent again after a break. Only the entry that names them has an effect.

Source: ``positions`` 9 (sender, rule 6).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from flowkit.device import bounds
from flowkit.errors import NotFound

if TYPE_CHECKING:
    from flowkit.device.link import Connection
    from flowkit.device.outbox import Outbox, Row

__all__ = ["fitting", "is_large", "payload_members"]

_BINARY = {"Content-Type": "application/octet-stream"}


def is_large(row: Row) -> bool:
    """Whether the payload of *row* goes ahead of its entry."""
    return row.payload_bytes > bounds.sender_inline_bytes_max


def payload_members(outbox: Outbox, row: Row, connection: Connection) -> dict[str, Any]:
    """What the entry of *row* says of its payload; a large one has arrived on return.

    Raises:
        TransportError, PlatformError: a piece could not be sent.
    """
    if not is_large(row):
        return {"data": b64encode(outbox.payload(row, 0, row.payload_bytes)).decode()}
    piece_bytes = bounds.sender_piece_bytes
    there = _pieces_there(outbox.box, row, connection)
    digest = hashlib.sha256()
    pieces = -(-row.payload_bytes // piece_bytes)
    for number in range(pieces):
        piece = outbox.payload(row, number * piece_bytes, piece_bytes)
        digest.update(piece)
        if there.get(number) != len(piece):
            address = ("upload", outbox.box, row.message, str(number))
            connection.ask("PUT", address, piece, headers=_BINARY)
    return {"upload": {"pieces": pieces, "bytes": row.payload_bytes, "sha256": digest.hexdigest()}}


def _pieces_there(box: str, row: Row, connection: Connection) -> dict[int, int]:
    """The pieces that the server has: their number and size."""
    try:
        said = connection.ask("GET", ("upload", box, row.message)).body
    except NotFound:
        return {}
    sizes = said.get("pieces") if isinstance(said, dict) else None
    if isinstance(sizes, dict):
        return {int(number): int(size) for number, size in sizes.items()}
    return {number: size for number, size in enumerate(sizes or []) if isinstance(size, int)}


def fitting(taken: dict[str, list[Row]], bytes_left: int) -> dict[str, list[Row]]:
    """Of each stream the rows before one that goes alone, as far as their payloads fit; the first
    row is always there.
    """
    rows: dict[str, list[Row]] = {}
    for name, found in taken.items():
        count = 0
        for row in found:
            bytes_left -= row.payload_bytes + len(row.entry or b"")
            if (rows or count) and (bytes_left < 0 or is_large(row)):
                break
            count += 1
            if is_large(row):
                break
        if count:
            rows[name] = found[:count]
    return rows
