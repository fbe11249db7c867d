"""Rows of the tables to documents and back: which column holds which member, and in which form.

Maps and lists are stored as JSONB (SQLite's own binary form), so that filters run on them without
parsing. Unset members are NULL and stay out of documents (protocol 1.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import apsw
import orjson

from flowkit.server.store.base import StoredDrop, StoredFlow
from flowkit.server.store.schema import ROW_BYTES_LEAST

__all__ = [
    "DROP_COLUMNS",
    "FLOW_COLUMNS",
    "FLOW_MEMBERS",
    "SUMMED_COLUMNS",
    "IDENTITY_COLUMNS",
    "IDENTITY_MEMBERS",
    "answer_name",
    "checksum",
    "drop_from_row",
    "drop_values",
    "flow_from_row",
    "identity_from_row",
]

FLOW_MEMBERS = {
    "id": "id",
    "path": "path",
    "capacity": "capacity",
    "description": "description",
    "filter": "filter",
    "public": "public",
    "history": "history",
    "creationDate": "creation_date",
    "creatorId": "creator_id",
    "lastEditDate": "last_edit_date",
    "lastEditorId": "last_editor_id",
}
"""Member to column of a Flow, in the order of its document."""

IDENTITY_MEMBERS = {
    "id": "id",
    "name": "name",
    "email": "email",
    "salutation": "salutation",
    "firstName": "first_name",
    "middleName": "middle_name",
    "lastName": "last_name",
    "icon": "icon",
    "creationDate": "creation_date",
    "creatorId": "creator_id",
    "lastEditDate": "last_edit_date",
    "lastEditorId": "last_editor_id",
}
"""Member to column of an Identity, in the order of its document."""

FLOW_COLUMNS = "key, head, mark_e, mark_v, " + ", ".join(FLOW_MEMBERS.values())
"""What ``flow_from_row`` reads."""

IDENTITY_COLUMNS = ", ".join(IDENTITY_MEMBERS.values())
"""What ``identity_from_row`` reads."""

SUMMED_COLUMNS = "seq, born, at, began"
"""What a row's checksum covers, before ``DROP_COLUMNS``: all that never changes in it."""

DROP_COLUMNS = (
    "id, elems, location, fhash, parent, version, creation_date, creator_id,"
    " last_edit_date, last_editor_id, types"
)
"""What ``drop_from_row`` reads and ``drop_values`` writes, in this order."""


def flow_from_row(row: tuple[Any, ...], epoch: str) -> StoredFlow:
    """The flow of a row of ``FLOW_COLUMNS``; *epoch* is that of its newest change."""
    key, head, mark_e, mark_v, *values = row
    doc = _document(FLOW_MEMBERS, values)
    if "public" in doc:
        doc["public"] = bool(doc["public"])
    return StoredFlow(key, doc, head, epoch, mark_e, mark_v)


def identity_from_row(row: tuple[Any, ...]) -> dict[str, Any]:
    """The identity of a row of ``IDENTITY_COLUMNS``."""
    return _document(IDENTITY_MEMBERS, row)


def _document(members: Mapping[str, str], values: Any) -> dict[str, Any]:
    return {
        member: value for member, value in zip(members, values, strict=True) if value is not None
    }


def drop_from_row(row: tuple[Any, ...], flow_id: str, path: str) -> StoredDrop:
    """The drop of a row of ``DROP_COLUMNS``."""
    drop_id, elems, location, fhash, parent, version, created, creator, edited, editor, types = row
    doc = {
        "id": drop_id,
        "flowId": flow_id,
        "path": path,
        "elems": apsw.jsonb_decode(elems),
    }
    if location is not None:
        doc["location"] = apsw.jsonb_decode(location)
    if fhash is not None:
        doc["fhash"] = fhash
    if parent is not None:
        doc["parentDropId"] = apsw.jsonb_decode(parent)
    doc["version"] = version
    doc["creationDate"] = created
    if creator is not None:
        doc["creatorId"] = creator
    if edited is not None:
        doc["lastEditDate"] = edited
    if editor is not None:
        doc["lastEditorId"] = editor
    return StoredDrop(doc, orjson.loads(types) if types is not None else {})


def drop_values(drop: StoredDrop) -> tuple[Any, ...]:
    """The values of ``DROP_COLUMNS`` for *drop*, and behind them the bytes that its row counts."""
    get = drop.doc.get
    elems = apsw.jsonb_encode(drop.doc["elems"])
    location, parent = _blob(get("location")), _blob(get("parentDropId"))
    types = orjson.dumps(dict(drop.types)) if drop.types else None
    fhash = get("fhash")
    size = ROW_BYTES_LEAST + len(elems)
    for part in (location, parent, types, fhash and fhash.encode()):
        if part is not None:
            size += len(part)
    return (
        get("id"),
        elems,
        location,
        fhash,
        parent,
        get("version"),
        get("creationDate"),
        get("creatorId"),
        get("lastEditDate"),
        get("lastEditorId"),
        types.decode() if types is not None else None,
        size,
    )


def checksum(values: Sequence[Any]) -> int:
    """The CRC-32 of values as they stand in a row; where one ends and the next begins counts."""
    crc = 0
    for value in values:
        if value is None:
            part = b"\0"
        elif isinstance(value, bytes):
            part = b"%d:%b" % (len(value), value)
        elif isinstance(value, str):
            part = b"'%b'" % value.encode()
        else:
            part = b"%d;" % value
        crc = crc32(part, crc)
    return crc


def _blob(value: Any) -> bytes | None:
    return None if value is None else apsw.jsonb_encode(value)


def answer_name(account: str, request_id: str) -> bytes:
    """The name under which a kept answer stands: 16 bytes, whatever the length of its parts."""
    return hashlib.blake2b(f"{account} {request_id}".encode(), digest_size=16).digest()
