"""The endpoint of payloads: ``GET /payload/<id>``, bytes that belong to a drop.

Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.server.access import flow_with_id
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.store.base import Reader

__all__ = ["read"]

_WHOLE = re.compile("[0-9]{1,18}")


def read(call: Call) -> Work:
    """A part of a payload, for who may read the drops of its flow."""
    call.query()  # tells of parameters that are not known
    most = limits.payload_part_bytes_max
    offset = _whole(call, "offset", 0)
    size = _whole(call, "size", most)
    if size > most:
        raise BadRequest(f"size: must be at most {most}")

    def work(reader: Reader, who: Credential) -> Result:
        payload = reader.pieces.payload(call.args["id"])
        if payload is None:
            raise NotFound(NOT_LOCATED)
        flow_with_id(reader, who, payload.flow_id, "dropRead")
        data = reader.pieces.read(payload.body, offset, size)
        told: dict[str, Any] = {
            "id": payload.id,
            "flowId": payload.flow_id,
            "bytes": payload.bytes,
            "offset": offset,
            "data": base64.b64encode(data).decode("ascii"),
        }
        if payload.content_type is not None:
            told["contentType"] = payload.content_type
        return Result(told)

    return work


def _whole(call: Call, name: str, default: int) -> int:
    given = call.params.get(name)
    if given is None or given == "":
        return default
    if isinstance(given, str) and _WHOLE.fullmatch(given):
        return int(given)
    if type(given) is int and 0 <= given <= limits.integer_max:
        return given
    raise BadRequest(f"{name}: must be a whole number from 0")
