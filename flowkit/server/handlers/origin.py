"""The endpoint of marks: ``GET /origin/<box>``, how far each stream of an outbox has come.

A sender asks on every new connection, before it sends: a server that was restored from a backup
shows by an earlier mark that it has lost something. The lines are those of the caller's own scope,
its device or else its account; the parameter ``device`` names another one's.

Source: ``positions`` 9; ``docs/reference/sending.rst``.
"""

from __future__ import annotations

from typing import Any

from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import RESOURCES
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.handlers.objects import is_seen
from flowkit.server.marks import BOX
from flowkit.server.store.base import LineTold, Reader

__all__ = ["device_asked", "read", "scope_asked"]


def read(call: Call) -> Work:
    """The marks of an outbox: stream to mark, with what it skipped."""
    box = call.args["box"]
    if not BOX.fullmatch(box):
        raise BadRequest("box: must be 32 hexadecimal digits, 0-9 and a-f")
    call.query()  # tells of parameters that are not known
    device_id = device_asked(call)

    def work(reader: Reader, who: Credential) -> Result:
        lines = reader.marks.of_box(scope_asked(reader, who, device_id), box)
        return Result({stream: _told(line) for stream, line in lines.items()})

    return work


def device_asked(call: Call) -> str | None:
    """The parameter ``device``.

    Raises:
        BadRequest: it is not the id of a Device.
    """
    device_id = call.params.get("device")
    if device_id is None or RESOURCES["device"].is_id(device_id):
        return device_id
    raise BadRequest("device: must be the id of a Device")


def scope_asked(reader: Reader, who: Credential, device_id: str | None) -> str:
    """The scope of a Device that *who* may read, or without one that of *who* itself.

    Raises:
        NotFound: there is no such Device, or none that *who* may read.
    """
    if device_id is None or device_id == who.device_id:
        return who.scope
    found = reader.object("device", device_id)
    if found is None or not is_seen(reader, who, found):
        raise NotFound(NOT_LOCATED)
    return found.id


def _told(line: LineTold) -> dict[str, Any]:
    return {
        "sequence": line.mark.sequence,
        "message": line.mark.message,
        "skipped": line.mark.skipped,
        "skips": [
            {"from": skip.first, "to": skip.last, "reason": skip.reason, "at": skip.at_ms}
            for skip in line.skips
        ],
    }
