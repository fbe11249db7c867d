"""The endpoints of a Device's documents: read both, change what is desired, report.

What is desired is changed by who may change the Device; what is reported by the Device alone, with
its own Token, directly or as an entry of an array create (``apply_reported``).

Source: ``docs/reference/devices.rst``; ``positions`` 9 (entries).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from flowkit import limits
from flowkit.errors import BadRequest, Conflict, Forbidden, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.properties import merge_patch, patch_faults, property_faults
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import check_object, notes_for_unknown
from flowkit.server.handlers.device import DEVICE, is_seen_device
from flowkit.server.handlers.documents import document_of, generation_of, tell
from flowkit.server.handlers.entries import EntryKind, Sent
from flowkit.server.handlers.registration import seen
from flowkit.server.handlers.revoking import token_ids
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["REPORTED", "apply_reported", "change_desired", "change_reported", "read"]

_ITS_OWN_ALONE = "it takes the right of the Device's own Token to report its properties"


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of a document that may be.

    Attributes:
        values: the whole document, or the patch.
        is_patch: which of the two it is.
        version: what the version must be now, None for whatever it is.
    """

    values: Mapping[str, Any]
    is_patch: bool
    version: int | None = None

    def of(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The document after the change.

        Raises:
            BadRequest: it would break a rule, such as the bound on its bytes.
        """
        if not self.is_patch:
            return self.values
        merged = merge_patch(values, self.values)
        faults = property_faults(merged)
        if faults:
            raise BadRequest(*faults)
        return merged


@dataclass(slots=True)
class _Held:
    """What the entries of one request share.

    Attributes:
        device: as the entries so far have left it.
        spent: the bytes of the documents that were written, by line.
    """

    device: StoredObject
    spent: dict[tuple[str, str], int] = field(default_factory=dict)


def read(call: Call) -> Work:
    """``GET /device/<id>/properties``."""
    call.query()

    def work(reader: Reader, who: Credential) -> Result:
        device = _device(reader, who, call.args["id"])
        return Result(
            {
                "desired": document_of(device, "desired"),
                "reported": document_of(device, "reported"),
                "generation": generation_of(reader, device),
            }
        )

    return work


def change_desired(call: Call) -> Work:
    """``POST /device/<id>/desired``: a patch or the whole document, if the version is as said."""
    call.query()
    change = _read_change(call.body(), call)

    def work(writer: Writer, who: Credential) -> Result:
        device = _device(writer, who, call.args["id"])
        if who.token_id in token_ids(device):
            raise Forbidden(
                "desired: the Token of a Device cannot change what is desired of it: it takes the"
                " right 'write' at its path"
            )
        DEVICE.demand_change(writer, who, device)
        _demand_version(change, device, "desired")
        before = document_of(device, "desired")["values"]
        made = tell(writer, who, device, "desired", change.of(before))
        return Result({**document_of(made, "desired"), "generation": generation_of(writer, made)})

    return work


def change_reported(call: Call) -> Work:
    """``POST /device/<id>/reported``: what the Device has to say of itself, by itself."""
    call.query()
    body = call.body()
    _read_change(body, call)

    def work(writer: Writer, who: Credential) -> Result:
        device = _device(writer, who, call.args["id"])
        if who.device_id != device.id:
            raise Forbidden(f"reported: {_ITS_OWN_ALONE}")
        return Result(apply_reported(writer, who, {"reported": body}))

    return work


def apply_reported(writer: Writer, who: Credential, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry ``{"reported": {"values": …}}`` or ``{"reported": {"patch": …}}`` of a Device.

    Args:
        writer: the store.
        who: must be the Token of a Device; the entry is about that Device.
        entry: as it was sent.

    Returns:
        ``{"version": …, "generation": …}``.

    Raises:
        BadRequest: it breaks a rule, and always will.
        Forbidden: it comes from who is no Device.
    """
    return _heard(writer, _reported(writer, who, entry, _itself(writer, who)))


def _itself(reader: Reader, who: Credential) -> StoredObject:
    """The Device whose Token came."""
    device = reader.object("device", who.device_id) if who.device_id else None
    if device is None:
        raise Forbidden(f"reported: {_ITS_OWN_ALONE}")
    return device


def _reported(
    writer: Writer, who: Credential, entry: Mapping[str, Any], device: StoredObject
) -> StoredObject:
    """The Device after what it has said of itself."""
    change = _read_change(entry.get("reported"))
    _demand_version(change, device, "reported")
    values = change.of(document_of(device, "reported")["values"])
    return tell(writer, who, device, "reported", values, **seen(device, who.at_ms))


def _heard(reader: Reader, device: StoredObject) -> dict[str, Any]:
    version = document_of(device, "reported")["version"]
    return {"version": version, "generation": generation_of(reader, device)}


def _check_entry(_call: Call, entry: dict[str, Any]) -> dict[str, Any]:
    if _read_change(entry.get("reported")).version is not None:
        # another version would be refused for ever, and hold up the line
        raise BadRequest("reported.version: is for direct calls; entries are taken in their order")
    others = sorted(set(entry) - {"reported"})
    if others:
        raise BadRequest(f"{others[0][:64]}: stands beside reported, which is an entry of its own")
    return entry


def _store_entry(writer: Writer, who: Credential, sent: Sent) -> dict[str, Any]:
    """The Device is read once for all entries of a request, however large it is.

    Each entry writes the whole document anew, so that one request of many could hold up everybody:
    beyond a bound the rest of the line is left for the next request.
    """
    held: _Held = sent.shared.get("reported") or _Held(_itself(writer, who))
    sent.shared["reported"] = held
    spent = held.spent.get(sent.origin.line, 0)
    if spent >= limits.reported_bytes_per_request_max:
        raise Conflict(f"expected in the next request: this one has {spent} bytes of documents")
    held.device = _reported(writer, who, sent.checked, held.device)
    size = len(orjson.dumps(document_of(held.device, "reported")["values"]))
    held.spent[sent.origin.line] = spent + size
    return _heard(writer, held.device)


REPORTED = EntryKind("reported", _check_entry, _store_entry)
"""The kind of entry of an array create by which a Device reports."""


def _device(reader: Reader, who: Credential, device_id: str) -> StoredObject:
    found = reader.object("device", device_id)
    if found is None or not is_seen_device(reader, who, found):
        raise NotFound(NOT_LOCATED)
    return found


def _demand_version(change: _Change, device: StoredObject, kind: Any) -> None:
    now = document_of(device, kind)["version"]
    if change.version is not None and change.version != now:
        raise Conflict(f"version: is {now}, not {change.version}")


def _read_change(body: Any, call: Call | None = None) -> _Change:
    """The body of a change: ``values`` or ``patch``, and perhaps ``version``."""
    given = check_object(body)
    if call is not None:
        unknown = sorted(set(given) - {"values", "patch", "version"})
        call.note(notes_for_unknown(unknown, "a member here"))
    if ("values" in given) is ("patch" in given):
        raise BadRequest("body: must have either values or patch")
    is_patch = "patch" in given
    values = given["patch"] if is_patch else given["values"]
    faults = patch_faults(values) if is_patch else property_faults(values)
    version = given.get("version")
    whole = isinstance(version, int) and not isinstance(version, bool)
    if version is not None and not (whole and 0 <= version <= limits.integer_max):
        faults.append("version: must be a whole number, 0 or more")
    if faults:
        raise BadRequest(*faults)
    return _Change(values, is_patch, version)
