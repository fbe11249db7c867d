"""The two documents of a Device, desired and reported, each with a version of its own.

A document that changes is written twice in one commit: as a member of the Device, for who asks,
and as a Drop in the Flow ``properties`` below its path, for who listens. That Flow holds the newest
Drop of either kind, and the changes before as far as its history reaches.

A version counts the changes of one document of one **generation**. The generation is another one
when the Device was made anew or the store was restored from a backup: then versions may have gone
back, and who remembers one compares the generation first.

Source: ``docs/reference/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.server import ingest
from flowkit.server.announce import announce
from flowkit.server.auth import Credential
from flowkit.server.checking import Checked
from flowkit.server.handlers.registration import FLOWS
from flowkit.server.store.base import Account, Reader, StoredFlow, StoredObject, Writer

__all__ = ["DEFAULTS", "DocumentKind", "document_of", "generation_of", "tell"]

DocumentKind = Literal["desired", "reported"]

DEFAULTS: Mapping[str, Any] = {
    "desired": {},
    "desiredVersion": 0,
    "reported": {},
    "reportedVersion": 0,
    "tags": {},
}
"""What a Device shows that nobody has told anything yet."""

_FLOW = "properties"


def generation_of(reader: Reader, device: StoredObject) -> str:
    """The text that is another one when versions of this Device may have gone back."""
    return f"{device.id[1:]}.{reader.fleet.restoration()}"


def document_of(device: StoredObject, kind: DocumentKind) -> dict[str, Any]:
    """A document as ``{"values": …, "version": …}``."""
    return {
        "values": device.doc.get(kind, {}),
        "version": device.doc.get(f"{kind}Version", 0),
    }


def tell(
    writer: Writer,
    who: Credential,
    device: StoredObject,
    kind: DocumentKind,
    values: Mapping[str, Any],
    **more: Any,
) -> StoredObject:
    """Make *values* the document of a Device, with the next version, and tell who listens.

    Args:
        writer: the store.
        who: changes it; that it may, and that the values may be, was checked.
        device: as it is now.
        kind: which of the two documents.
        values: the whole document.
        more: further members to set in the same write.

    Returns:
        the Device. Nothing changes but *more* if the document is the same already.
    """
    before = document_of(device, kind)
    is_same = before["values"] == values and _encodes_alike(before["values"], values)
    changes = dict(more)
    if not is_same:
        changes |= {kind: dict(values), f"{kind}Version": before["version"] + 1}
    if not changes:
        return device
    editor = who.account.identity_id if kind == "desired" else None
    changed = writer.update_object(device, changes, editor=editor)
    if not is_same:
        _drop(writer, who, changed, kind)
    return changed


def _encodes_alike(one: Any, other: Any) -> bool:
    """Whether equal values are of the same types, too: true equals 1 in Python, not in JSON."""
    if isinstance(one, Mapping):
        return all(_encodes_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return all(_encodes_alike(*pair) for pair in zip(one, other, strict=True))
    return isinstance(one, bool) is isinstance(other, bool)


def _drop(writer: Writer, who: Credential, device: StoredObject, kind: DocumentKind) -> None:
    """The Drop that tells of a document, in the Flow of the Device, in its owner's name."""
    account = writer.account(device.account)
    path = f"{device.doc['path']}/{_FLOW}"
    if account is None or len(path) > limits.path_chars_max:
        return  # of a device that is older than the Flow, and whose path leaves no room for it
    flow = _flow(writer, who, account, device)
    elems = {"kind": kind, **document_of(device, kind), "generation": generation_of(writer, device)}
    keeper = Credential(account, "identity", at_ms=who.at_ms)
    checked = Checked({"elems": elems, "fhash": kind}, {})
    try:
        ingest.create(writer, keeper, ingest.Arrival(checked, who.at_ms, flow=flow))
    except BadRequest:
        return  # refused by the filter that its owner gave to the Flow


def _flow(writer: Writer, who: Credential, account: Account, device: StoredObject) -> StoredFlow:
    """The Flow of the documents; made, and opened to the Token, for a Device that is older."""
    path = f"{device.doc['path']}/{_FLOW}"
    flow = writer.flow_at(path)
    if flow is None:
        flow = writer.create_flow({"path": path}, creator=account.identity_id)
        announce(writer, who, "CREATE", "flow", flow.doc)
    token = writer.object("token", device.doc["tokenId"])
    if token is not None and path not in token.doc["paths"]:
        paths = {**token.doc["paths"], path: dict(FLOWS[_FLOW])}
        writer.update_object(token, {"paths": paths}, editor=None)
    return flow
