"""Provisioning tokens: what a maker puts into many devices, good for asking to become one.

Its secret, ``provisioningToken``, is told and kept as the string of a Token is (``token.py``). It
opens nothing but the routes of ``provisioning.py``.

Source: ``docs/reference/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowkit.errors import BadRequest
from flowkit.protocol.properties import device_id_fault
from flowkit.server.auth import Credential, expiry_of, hash_secret, mint_token_string
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.grants import shown_grant, sweep
from flowkit.server.handlers.objects import demand_master, noun_of
from flowkit.server.handlers.revoking import operations_of
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["MODES", "PROVISIONING_TOKEN"]

MODES: Mapping[str, str] = {
    "device": "what the device asks for, else that of the token",
    "token": "that of the token, whatever the device asks for",
    "approver": "what the approver says, else that of the token",
    "any": "what the approver says, else what the device asks for, else that of the token",
}
"""Who chooses the deviceId, by ``deviceIdMode``."""

_MEMBER = "provisioningToken"


def _shown(_reader: Reader, who: Credential, found: StoredObject, call: Call) -> dict[str, Any]:
    del call
    secret = found.state.get(_MEMBER)
    return shown_grant(found, who.at_ms) | ({_MEMBER: secret} if secret else {})


def _check(_call: Call, checked: Checked) -> None:
    members = checked.members
    faults: list[str] = []
    mode, device_id = members["deviceIdMode"], members.get("deviceId")
    if mode not in MODES:
        faults.append(f"deviceIdMode: must be one of {', '.join(MODES)}")
    fault = device_id_fault(device_id) if device_id is not None else None
    if fault:
        faults.append(fault)
    if mode == "token" and device_id is None:
        faults.append("deviceId: is required where deviceIdMode is token")
    if mode == "approver" and members.get("autoApprove"):
        faults.append("autoApprove: leaves nobody to choose where deviceIdMode is approver")
    if faults:
        raise BadRequest(*faults)


def _create(writer: Writer, who: Credential, call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a provisioning token")
    sweep(writer, "provisioning_token", who)
    secret = mint_token_string()
    account = who.account
    keep = call.settings.keep_token_strings
    made = writer.create_object(
        "provisioning_token",
        account.name,
        {**checked.members, "issuedBy": account.identity_id},
        creator=account.identity_id,
        state={_MEMBER: secret} if keep else None,
    )
    writer.create_credential(hash_secret(secret), account.name, made.id, expiry_of(made.doc))
    return replace(made, state={_MEMBER: secret})


def _remove(writer: Writer, _who: Credential, found: StoredObject) -> None:
    """Its operations go with it: nobody could complete them any more."""
    for operation in operations_of(writer, found):
        writer.delete_object(operation)
    writer.delete_object(found)


def _kept(doc: dict[str, Any], call: Call) -> dict[str, Any]:
    """What of the answer to a create is kept for its repetition: no secret that is not kept."""
    if call.settings.keep_token_strings:
        return doc
    return {name: value for name, value in doc.items() if name != _MEMBER}


PROVISIONING_TOKEN = noun_of(
    "provisioning_token",
    shown=_shown,
    check=_check,
    create=_create,
    remove=_remove,
    kept=_kept,
)
"""The noun of provisioning tokens."""
