"""A message of a device as it stands in an entry: read and checked, before the store is asked.

Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.server import ingest
from flowkit.server.bodies import read_json
from flowkit.server.call import Call
from flowkit.server.checking import Checked

__all__ = ["RESERVED", "Claim", "SentMessage", "as_elements", "check_message"]

RESERVED = "_message"
"""The element that tells of the message that a drop was."""

_NAMES = ("group", "stream", "batchId", "messageId", "sliceId", "chunkId", "contentType")
_PAYLOADS = ("elems", "data", "upload")
_MEMBERS = frozenset({*_NAMES, *_PAYLOADS, "complete", "at", "properties"})
_DIGEST = re.compile("[0-9a-f]{64}")
_JSON_TYPES = (None, "application/json")


@dataclass(frozen=True, slots=True)
class Claim:
    """What an entry says of the upload that it claims."""

    pieces: int
    bytes: int
    sha256: str


@dataclass(slots=True)
class SentMessage:
    """A message, or the end of one, or of a batch.

    Attributes:
        names: those of ``group stream batchId messageId sliceId chunkId contentType`` that it has.
        complete: ``batch`` or ``message``; None for neither.
        at_ms: its time as the sender says, in ms since 1970 UTC.
        properties: what else the sender says of it.
        elements: the payload as elements, where it is some.
        data: the bytes of the payload, None for an upload and for none.
        claim: the upload that is the payload.
    """

    names: dict[str, str] = field(default_factory=dict)
    complete: str | None = None
    at_ms: int | None = None
    properties: dict[str, str] = field(default_factory=dict)
    elements: Checked | None = None
    data: bytes | None = None
    claim: Claim | None = None

    @property
    def has_payload(self) -> bool:
        """Whether it carries anything."""
        return self.data is not None or self.claim is not None

    def name(self, member: str) -> str | None:
        """One of its names."""
        return self.names.get(member)


def check_message(_call: Call, body: dict[str, Any]) -> SentMessage:
    """The message of an entry.

    Raises:
        BadRequest: one sentence per fault.
    """
    given = body["message"]
    if not isinstance(given, dict):
        raise BadRequest("message: must be an object")
    faults = [f"{name}: is not a member beside a message" for name in sorted(set(body))
              if name != "message"]  # fmt: skip
    faults.extend(_faults(given))
    if faults:
        raise BadRequest(*faults[:100])
    message = SentMessage(
        names={name: given[name] for name in _NAMES if given.get(name) is not None},
        complete=given.get("complete"),
        at_ms=given.get("at"),
        properties=dict(given.get("properties") or {}),
    )
    _read_payload(given, message)
    if message.name("chunkId") is not None and message.name("messageId") is None:
        raise BadRequest("message.messageId: a chunk says which message it is of")
    if not message.has_payload:
        _check_completion(message)
    return message


def _check_completion(message: SentMessage) -> None:
    if message.complete is None:
        raise BadRequest(f"message: has none of {', '.join(_PAYLOADS)} and completes nothing")
    if message.complete == "message" and message.name("messageId") is None:
        raise BadRequest("message.messageId: which message is complete is not said")
    if message.name("chunkId") is not None:
        raise BadRequest("message.chunkId: there is no chunk without a payload")


def _faults(given: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(set(given) - _MEMBERS):
        yield f"message.{name}: is not a member"
    most = limits.message_name_chars_max
    for name in _NAMES:
        value = given.get(name)
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= most):
            yield f"message.{name}: must be 1 to {most} characters"
    if given.get("complete") not in (None, "batch", "message"):
        yield "message.complete: must be batch or message"
    at = given.get("at")
    if at is not None and not (type(at) is int and 0 <= at <= limits.integer_max):
        yield "message.at: must be milliseconds since 1970, a whole number"
    if len([name for name in _PAYLOADS if name in given]) > 1:
        yield f"message: must have one of {', '.join(_PAYLOADS)}, not several"
    yield from _property_faults(given.get("properties"))


def _property_faults(given: Any) -> Iterator[str]:
    most = limits.message_name_chars_max
    if given is None:
        return
    if not isinstance(given, dict) or len(given) > limits.message_properties_max:
        yield f"message.properties: must be an object of {limits.message_properties_max} at most"
        return
    for name, value in given.items():
        if not (isinstance(value, str) and len(value) <= most and 0 < len(name) <= most):
            yield f"message.properties: {name[:40]!r} must be a text of {most} characters at most"


def _read_payload(given: Mapping[str, Any], message: SentMessage) -> None:
    if "elems" in given:
        if not isinstance(given["elems"], dict):
            raise BadRequest("message.elems: must be an object")
        if RESERVED in given["elems"]:
            raise BadRequest(f"message.elems.{RESERVED}: is what the server says of a message")
        message.elements = ingest.check_drop({"elems": given["elems"]}, typed=False, addressed=True)
        message.data = _canonical(message.elements)
    elif "data" in given:
        message.data = _decoded(given["data"])
        if message.name("chunkId") is None:
            message.elements = as_elements(message.data, message.name("contentType"))
    elif "upload" in given:
        message.claim = _claim(given["upload"])


def _canonical(elements: Checked) -> bytes:
    return orjson.dumps(elements.members["elems"], option=orjson.OPT_SORT_KEYS)


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise BadRequest("message.data: must be the bytes of the payload in base64") from None


def _claim(given: Any) -> Claim:
    if not isinstance(given, dict) or set(given) != {"pieces", "bytes", "sha256"}:
        raise BadRequest("message.upload: must be an object of pieces, bytes and sha256")
    pieces, size, digest = given["pieces"], given["bytes"], given["sha256"]
    if not (type(pieces) is int and 0 < pieces <= limits.upload_pieces_max):
        raise BadRequest(f"message.upload.pieces: must be 1 to {limits.upload_pieces_max}")
    if not (type(size) is int and 0 < size <= limits.upload_bytes_max):
        raise BadRequest(f"message.upload.bytes: must be 1 to {limits.upload_bytes_max}")
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise BadRequest("message.upload.sha256: must be 64 hexadecimal digits, 0-9 and a-f")
    return Claim(pieces, size, digest)


def as_elements(data: bytes, content_type: str | None) -> Checked | None:
    """A payload as elements, if it is a JSON object whose members may be elements."""
    plain_type = content_type and content_type.partition(";")[0].strip().lower()
    if plain_type not in _JSON_TYPES or len(data) > limits.message_elems_bytes_max:
        return None
    if data.lstrip()[:1] != b"{":
        return None
    try:
        elems = read_json(data)
        if not isinstance(elems, dict) or RESERVED in elems:
            return None
        return ingest.check_drop({"elems": elems}, typed=False, addressed=True)
    except BadRequest:
        return None
