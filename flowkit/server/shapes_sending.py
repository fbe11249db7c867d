"""The JSON schemas of sending: lines, marks, uploads, payloads.

Source: ``docs/reference/sending.rst``, ``docs/reference/streams.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit import limits

__all__ = ["RAW", "SENDING_ROUTES", "SENDING_SCHEMAS"]

Schema = dict[str, Any]

_MESSAGE = "^[0-9a-f]{16,64}$"
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_COUNTS: Schema = {"type": "array", "items": _COUNT}
_WHOLE: Schema = {"type": "integer", "maximum": limits.integer_max}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": _OBJECT}


def _chars(most: int) -> Schema:
    return {"minLength": 1, "maxLength": most}


RAW: Schema = {"contentMediaType": "application/octet-stream"}
"""What is sent as it is, not as JSON."""

_UPLOAD: Schema = {
    "type": "object",
    "required": ["pieces", "bytes"],
    "properties": {"pieces": _COUNTS, "bytes": _COUNT},
}
_OPEN: Schema = {
    "type": "object",
    "required": ["batches", "messages", "conflicts"],
    "properties": {
        "batches": _OBJECTS,
        "messages": _OBJECTS,
        "conflicts": _COUNT,
    },
}
_PAYLOAD: Schema = {
    "type": "object",
    "required": ["id", "flowId", "bytes", "offset", "data"],
    "properties": {
        "bytes": _COUNT,
        "offset": _COUNT,
        "data": {"type": "string", "contentEncoding": "base64"},
        "contentType": _TEXT,
    },
}
_MARK: Schema = {
    "type": "object",
    "required": ["sequence", "message", "skipped", "skips"],
    "properties": {
        "sequence": {**_WHOLE, "minimum": 1},
        "message": {"type": "string", "pattern": _MESSAGE},
        "skipped": _COUNT,
        "skips": _OBJECTS,
    },
}
_MARKS: Schema = {"type": "object", "additionalProperties": _MARK}

SENDING_SCHEMAS: Mapping[str, Schema] = {
    "Origin": {
        "type": "object",
        "required": ["box", "stream", "sequence", "message"],
        "description": "Where an entry of an array create stands in the line of its sender.",
        "additionalProperties": False,
        "properties": {
            "box": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "stream": {"type": "string", **_chars(limits.origin_stream_chars_max)},
            "sequence": {**_WHOLE, "minimum": 1},
            "message": {"type": "string", "pattern": _MESSAGE},
            "after": {"type": "string", "pattern": _MESSAGE},
            "to": {**_WHOLE, "minimum": 1},
            "skip": {"type": "string", **_chars(limits.origin_reason_chars_max)},
        },
    },
    "Sent": {
        "type": "object",
        "required": ["origin"],
        "description": "An entry of a line: what another entry is, or a skip without anything.",
        "properties": {"origin": {"$ref": "#/components/schemas/Origin"}},
    },
    "SentAnswer": {
        "type": "object",
        "required": ["status"],
        "description": "An entry of a line that is not a drop, was there already, or was skipped.",
        "properties": {
            "status": {"enum": [200, 201]},
            "duplicate": {"const": True},
            "skipped": {"type": "integer", "minimum": 1},
        },
    },
}
"""The schemas that have names."""

SENDING_ROUTES: Mapping[tuple[str, str], tuple[Schema | None, Schema]] = {
    ("GET", "origin/{box}"): (None, _MARKS),
    ("GET", "stream/{id}/open"): (None, _OPEN),
    ("GET", "payload/{id}"): (None, _PAYLOAD),
    ("GET", "upload/{box}/{message}"): (None, _UPLOAD),
    ("PUT", "upload/{box}/{message}/{n}"): (RAW, _UPLOAD),
}
"""What is sent and what is answered."""
