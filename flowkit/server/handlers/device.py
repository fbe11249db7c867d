"""Devices: one physical device with its Token and its Flows; what is particular about them.

A Device is made in one commit with its Token and the Flows ``default`` (its data), ``commands`` (to
it), ``reports`` (about itself) and ``properties`` (what is desired of it and what it reported)
below its path; Flows that are there already are used. The agent on the device keeps ``lastSeen``,
``status`` and ``deviceSummary`` of its own Device up to date with that Token, and changes nothing
else with a ``PUT``.

Its Token gone, a Device is disabled: its ``status`` is then shown as ``DISABLED``, whatever it said
last. Deleting a Device takes its Tokens along and leaves the Flows.

Source: protocol 1.11 (Device), 11 (devices), 8.2 (what a Token may do);
``docs/reference/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowkit.errors import BadRequest, Conflict, Forbidden
from flowkit.protocol.properties import device_id_fault, property_faults, tag_faults
from flowkit.server.access import demand
from flowkit.server.auth import Credential
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.documents import DEFAULTS, generation_of, tell
from flowkit.server.handlers.objects import demand_change, demand_master, is_seen, noun_of
from flowkit.server.handlers.registration import (
    check_path,
    make_device,
    string_of,
)
from flowkit.server.handlers.revoking import end_registration, token_ids
from flowkit.server.handlers.sifting import InPart
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["DEVICE", "is_seen_device"]

OWN_MEMBERS = frozenset({"lastSeen", "status", "deviceSummary"})
"""What the Token of a Device may change of it."""

DISABLED = "DISABLED"

_TOLD_ONCE = "told"
"""As in ``token.py``: where a string that is not kept rides to the answer of the create."""

_NOT_ITS_OWN = "the Token of a Device may change only its lastSeen, status and deviceSummary"


def _is_own_token(who: Credential, found: StoredObject) -> bool:
    return who.token_id is not None and who.token_id in token_ids(found)


def is_seen_device(reader: Reader, who: Credential, found: StoredObject) -> bool:
    """Whether *who* may read a Device: its own Token, its owner, who may read at its path."""
    return _is_own_token(who, found) or is_seen(reader, who, found)


def _shown(reader: Reader, _who: Credential, found: StoredObject, call: Call) -> dict[str, Any]:
    seen = found.doc.get("lastSeen")
    more: dict[str, Any] = {
        "timeSinceLastSeen": -1 if seen is None else max(0, call.now_ms - int(seen)),
        "generation": generation_of(reader, found),
    }
    if not reader.sifter.holds("token", found.doc["tokenId"]):
        more["status"] = DISABLED
    told = found.state.get(_TOLD_ONCE)
    return {**DEFAULTS, **found.doc, **more} | ({"tokenString": told} if told else {})


def _check(_call: Call, checked: Checked) -> None:
    members = checked.members
    faults = []
    if members.get("path") is not None:
        check_path(members["path"])
    if members.get("deviceId") is not None:
        faults += [device_id_fault(members["deviceId"])]
    if members.get("desired") is not None:
        faults += property_faults(members["desired"], "desired")
    if members.get("tags") is not None:
        faults += tag_faults(members["tags"])
    found = [each for each in faults if each]
    if found:
        raise BadRequest(*found)


def _create(writer: Writer, who: Credential, call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a Device")
    members = dict(checked.members)
    desired = members.pop("desired", None)
    device_id = members.get("deviceId")
    if device_id and writer.fleet.device_named(who.account.name, device_id):
        raise Conflict(f"deviceId: there is a Device {device_id} already")
    keep = call.settings.keep_token_strings
    made, token = make_device(writer, who, members, keep=keep)
    if desired:
        made = tell(writer, who, made, "desired", desired)
    return made if keep else replace(made, state={_TOLD_ONCE: string_of(token)})


def _demand_change(reader: Reader, who: Credential, found: StoredObject) -> None:
    if not _is_own_token(who, found):
        demand_change(reader, who, found)


def _change(
    writer: Writer, who: Credential, found: StoredObject, changes: Mapping[str, Any], _call: Call
) -> StoredObject:
    shown = {**DEFAULTS, **found.doc}
    if _is_own_token(who, found):
        changed = {name for name, value in changes.items() if value != shown.get(name)}
        if changed - OWN_MEMBERS:
            raise Forbidden(*(f"{name}: {_NOT_ITS_OWN}" for name in sorted(changed - OWN_MEMBERS)))
    others = {name: value for name, value in changes.items() if name != "desired"}
    made = writer.update_object(found, others, editor=who.account.identity_id)
    if "desired" in changes:
        made = tell(writer, who, made, "desired", changes["desired"] or {})
    return made


def _remove(writer: Writer, who: Credential, found: StoredObject) -> None:
    if _is_own_token(who, found):
        demand(who, "write", found.doc["path"])
    end_registration(writer, who, found)
    writer.delete_object(found)


def _kept(doc: dict[str, Any], _call: Call) -> dict[str, Any]:
    """What of the answer to a create is kept for its repetition: no secret."""
    return {name: value for name, value in doc.items() if name != "tokenString"}


_IN_PART = InPart(
    read=("path", "tokenId", "lastSeen", "status"),
    made=frozenset({"status", "timeSinceLastSeen", "generation", "tokenString"}),
    defaults=frozenset(DEFAULTS),
)

DEVICE = noun_of(
    "device",
    seen=is_seen_device,
    in_part=_IN_PART,
    shown=_shown,
    check=_check,
    create=_create,
    demand_change=_demand_change,
    change=_change,
    remove=_remove,
    kept=_kept,
)
"""The noun of Devices."""
