"""Operations of provisioning: a device asks to become one of an account, and somebody agrees.

::

    begin -> pending -- approved by the owner, or by the token itself --> approved -> complete
                |-- rejected by the owner --> rejected
                `-- nobody in an hour ------> expired

A device begins with a provisioning token and a **nonce** that it has drawn and keeps: whoever shows
the nonce is the device that began, so asking again gives the same operation, and nobody else can
complete it. Completing gives the device its Token; doing it again gives another one and ends the
one before, since an answer may have been lost.

A Token that is renewed leads on for ever without a person; one that has expired is renewed with a
provisioning token beside it.

Source: ``docs/reference/devices.rst``.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyRequests
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.properties import device_id_fault
from flowkit.protocol.resources import RESOURCES
from flowkit.server.announce import announce
from flowkit.server.auth import Credential, expiry_of, hash_secret
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import Checked, check_create, check_object
from flowkit.server.handlers.documents import generation_of
from flowkit.server.handlers.objects import noun_of
from flowkit.server.handlers.registration import (
    make_device,
    path_of,
    renew,
    replace_token,
    seen,
    string_of,
)
from flowkit.server.handlers.revoking import token_ids
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["PROVISIONING", "STATUSES", "begin", "complete", "refresh"]

STATUSES = ("pending", "approved", "rejected", "expired")
"""What an operation can be."""

_OPEN = ("pending", "approved")
_DECISIONS = ("approved", "rejected")

_SWEPT_MAX = 10
"""Operations of one status that one request removes: more than it adds, and no long work."""

_RESOURCE = RESOURCES["provisioning"]
_NONCE = re.compile(r"[0-9a-f]{32,64}")
_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no words come about, and no letters that look alike."""

_PROVISIONING_ALONE = "it takes the right of a provisioning token"
_TOO_MANY = "Too many devices of this account wait to be provisioned, ask again later"


def _status(operation: StoredObject, now_ms: int) -> str:
    status = str(operation.doc["status"])
    is_over = status in _OPEN and int(operation.doc["expiresAt"]) <= now_ms
    return "expired" if is_over else status


def _shown(_reader: Reader, who: Credential, found: StoredObject, call: Call) -> dict[str, Any]:
    del who
    return {**found.doc, "status": _status(found, call.now_ms)}


# What the device does


def begin(call: Call) -> Work:
    """``POST /provisioning``: begin an operation, or get the one that this device has begun."""
    call.query()
    checked = check_create(_RESOURCE, call.body())
    members = checked.members
    faults = [] if _NONCE.fullmatch(str(members["nonce"])) else [_NONCE_RULE]
    if "deviceId" in members:
        faults += filter(None, [device_id_fault(members["deviceId"])])
    if faults:
        raise BadRequest(*faults)
    if members.pop("status", None) is not None:
        call.note(["status: is set by the server and was ignored"])
    call.note(checked.notes)

    def work(writer: Writer, who: Credential) -> Result:
        _demand_provisioning(who, "begin")
        try:
            operation = _begun(writer, who, members["nonce"])
        except TooManyRequests:
            _count(call, "refused")
            raise
        _count(call, "begun" if operation is None else "again")
        if operation is not None:
            return Result(_shown(writer, who, operation, call))
        made = _make(writer, who, members)
        announce(writer, who, "CREATE", "provisioning", made.doc)
        return Result(_shown(writer, who, made, call), status=201)

    return work


def _count(call: Call, outcome: str) -> None:
    if call.metrics is not None:
        call.metrics.count("flowkit_provisioning_total", outcome)


_NONCE_RULE = "nonce: must be 32 to 64 hexadecimal digits in lower case"


def complete(call: Call) -> Work:
    """``POST /provisioning/<id>/complete``: how far it is and, once approved, the Token."""
    call.query()
    nonce = check_object(call.body()).get("nonce")
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise BadRequest(_NONCE_RULE)

    def work(writer: Writer, who: Credential) -> Result:
        _demand_provisioning(who, "complete")
        operation = writer.object("provisioning", call.args["id"])
        if operation is None or not _is_of(operation, who, nonce):
            raise NotFound(NOT_LOCATED)
        status = _status(operation, call.now_ms)
        if status == "approved" and not _is_agreed(writer, operation):
            operation = _ask_again(writer, who, operation)
            status = "pending"
        if status != "approved":
            told = {"status": status, "expiresAt": operation.doc["expiresAt"]}
            return Result(told)
        keep = call.settings.keep_token_strings
        device, token = _register(writer, who, operation, keep=keep)
        changes = {"registeredAs": device.id}
        writer.update_object(operation, changes, editor=None)
        _count(call, "registered")
        return _told(writer, device, token, keep, status=status)

    return work


def refresh(call: Call) -> Work:
    """``POST /device/<id>/refresh``: a new Token for the one that is shown.

    With a provisioning token in the header, the body shows the Token, which may have expired.
    """
    call.query()
    body = check_object(call.body()) if call.request.body.strip() else {}
    shown = body.get("registrationToken")
    if shown is not None and not isinstance(shown, str):
        raise BadRequest("registrationToken: must be a string")

    def work(writer: Writer, who: Credential) -> Result:
        device = writer.object("device", call.args["id"])
        used = _used(writer, who, device, shown)
        if device is None or used is None:
            raise NotFound(NOT_LOCATED)
        keep = call.settings.keep_token_strings
        device, token = renew(writer, who, device, used, keep=keep)
        changed = writer.update_object(device, seen(device, who.at_ms), editor=None)
        _count(call, "renewed")
        return _told(writer, changed, token, keep)

    return work


def _used(
    writer: Writer, who: Credential, device: StoredObject | None, shown: str | None
) -> StoredObject | None:
    """The Token of the device that was shown; None if the device is none of the caller's.

    Raises:
        BadRequest: a provisioning token came without it.
        Forbidden: it is no Token of this device, or the caller is no device.
    """
    if who.is_owner:
        raise Forbidden("registrationToken: it takes the right of the Device's own Token")
    if who.kind == "provisioning":
        if not shown:
            raise BadRequest("registrationToken: is required beside a provisioning token")
        secret = writer.credential(hash_secret(shown))
        is_here = secret is not None and secret.account.name == who.account.name
        token_id = secret.object_id if secret is not None and is_here else None
    else:
        token_id = who.token_id
    if device is None or device.account != who.account.name:
        return None
    if token_id not in token_ids(device):
        if who.kind == "provisioning":
            raise Forbidden("registrationToken: it takes the right of the Device's own Token")
        return None
    return writer.object("token", str(token_id))


def _demand_provisioning(who: Credential, what: str) -> None:
    if who.kind != "provisioning":
        raise Forbidden(f"provisioning: to {what} one {_PROVISIONING_ALONE}")


def _is_of(operation: StoredObject, who: Credential, nonce: str) -> bool:
    """Whether an operation was begun with this provisioning token and nonce."""
    is_its = operation.doc["provisioningTokenId"] == who.token_id
    return is_its and hmac.compare_digest(operation.state["nonce"], _digest(nonce))


def _digest(nonce: str) -> str:
    return hash_secret(nonce).hex()


def _begun(writer: Writer, who: Credential, nonce: str) -> StoredObject | None:
    """The open operation of this device; some of those that are long over are swept on the way.

    Raises:
        TooManyRequests: there is none, and too many others wait.
    """
    account, fleet = who.account.name, writer.fleet
    over_ms = who.at_ms - limits.provisioning_kept_ms
    for status in ("pending", *_DECISIONS):
        for each in fleet.ended(account, status, over_ms, _SWEPT_MAX):
            _delete(writer, each)
    found = writer.object("provisioning", fleet.operation_with(account, _digest(nonce)) or "")
    if found is not None and _status(found, who.at_ms) in _OPEN and _is_of(found, who, nonce):
        return found
    waiting, own = fleet.waiting(account, str(who.token_id), who.at_ms)
    if (
        waiting >= limits.provisioning_pending_per_account_max
        or own >= limits.provisioning_pending_per_token_max
        or fleet.operations(account) >= limits.objects_max
    ):
        raise TooManyRequests(_TOO_MANY, retry_after_s=limits.provisioning_retry_s)
    return None


def _delete(writer: Writer, operation_id: str) -> None:
    found = writer.object("provisioning", operation_id)
    if found is not None:
        writer.delete_object(found)


def _make(writer: Writer, who: Credential, members: Mapping[str, Any]) -> StoredObject:
    token = writer.object("provisioning_token", str(who.token_id))
    if token is None:
        raise NotFound(NOT_LOCATED)
    asked = members.get("deviceId")
    wanted = _chosen(token, asked, None)
    if wanted is not None:
        path_of(who.account.name, wanted)  # refused before anybody looks at it
    taken = _taken(writer, who.account.name, wanted)
    made = writer.create_object(
        "provisioning",
        who.account.name,
        {
            "code": _code(writer, who.account.name),
            "status": "pending",
            "deviceId": wanted,
            "expiresAt": who.at_ms + limits.provisioning_expiry_ms,
            "provisioningTokenId": token.id,
            "replaces": None if taken is None else taken.id,
        },
        creator=who.account.identity_id,
        state={"nonce": _digest(members["nonce"]), "asked": asked},
    )
    if not token.doc.get("autoApprove") or not _is_its_own(writer, taken, token):
        return made
    changes = _approval(writer, made, wanted, who.at_ms)
    return writer.update_object(made, changes, editor=None)


def _is_its_own(reader: Reader, taken: StoredObject | None, token: StoredObject) -> bool:
    """Whether nobody need be asked: the id is free, or its device came with the same token.

    A device whose Token was removed is not to come back by itself.
    """
    if taken is None:
        return True
    is_same = taken.state.get("provisioningTokenId") == token.id
    return is_same and reader.object("token", taken.doc["tokenId"]) is not None


def _is_agreed(writer: Writer, operation: StoredObject) -> bool:
    """Whether the approval holds for the device that has the deviceId by now, if one has it."""
    doc = operation.doc
    taken = _taken(writer, operation.account, doc["deviceId"])
    if taken is None or taken.id in (doc.get("replaces"), doc.get("registeredAs")):
        return True
    token = writer.object("provisioning_token", doc["provisioningTokenId"])
    if token is None or not token.doc.get("autoApprove"):
        return False
    return _is_its_own(writer, taken, token)


def _ask_again(writer: Writer, who: Credential, operation: StoredObject) -> StoredObject:
    """An approval that nobody gave for the device that came in between: it waits for one."""
    taken = _taken(writer, operation.account, operation.doc["deviceId"])
    changes = {
        "status": "pending",
        "replaces": None if taken is None else taken.id,
        "expiresAt": who.at_ms + limits.provisioning_expiry_ms,
    }
    made = writer.update_object(operation, changes, editor=None)
    announce(writer, who, "UPDATE", "provisioning", made.doc)
    return made


def _code(writer: Writer, account: str) -> str:
    """A code that no operation of the account has."""
    while True:
        letters = "".join(secrets.choice(_CODE_LETTERS) for _ in range(8))
        code = f"{letters[:4]}-{letters[4:]}"
        if writer.fleet.operation_called(account, code) is None:
            return code


def _taken(writer: Writer, account: str, device_id: str | None) -> StoredObject | None:
    """The device that is there under that id, or at its path."""
    if device_id is None:
        return None
    fleet = writer.fleet
    found = fleet.device_named(account, device_id)
    found = found or fleet.device_at(account, path_of(account, device_id))
    return None if found is None else writer.object("device", found)


def _register(
    writer: Writer, who: Credential, operation: StoredObject, *, keep: bool
) -> tuple[StoredObject, StoredObject]:
    """The device of an approved operation, made or found, with a new Token."""
    device_id = operation.doc["deviceId"]
    maker = writer.object("provisioning_token", operation.doc["provisioningTokenId"])
    known = {
        "provisioningTokenId": operation.doc["provisioningTokenId"],
        "registrationDuration": maker.doc.get("registrationDuration") if maker else None,
    }
    found = _taken(writer, who.account.name, device_id)
    if found is None:
        members = {"path": path_of(who.account.name, device_id), "deviceId": device_id}
        device, token = make_device(writer, who, members, keep=keep, **known)
        announce(writer, who, "CREATE", "device", device.doc)
    else:
        device, token = replace_token(writer, who, found, keep=keep, **known)
    changes = {"deviceId": device.doc.get("deviceId", device_id), **seen(device, who.at_ms)}
    return writer.update_object(device, changes, editor=None), token


def _told(
    writer: Writer, device: StoredObject, token: StoredObject, keep: bool, **more: Any
) -> Result:
    """What a device hears of itself with a new Token; a string that is not kept is told once."""
    ends = expiry_of(token.doc)
    body = {
        **more,
        "deviceId": device.doc.get("deviceId"),
        "id": device.id,
        "tokenId": token.id,
        "path": device.doc["path"],
        "generation": generation_of(writer, device),
        **({} if ends is None else {"expiresAt": ends}),
    }
    known = {name: value for name, value in body.items() if value is not None}
    result = Result({**known, "tokenString": string_of(token)})
    if not keep:
        result.kept = known
    return result


# What the owner does


def _check(_call: Call, checked: Checked) -> None:
    members = checked.members
    faults = []
    if "status" in members and members["status"] not in _DECISIONS:
        faults.append(f"status: must be {' or '.join(_DECISIONS)}")
    if "deviceId" in members:
        faults += filter(None, [device_id_fault(members["deviceId"])])
    if faults:
        raise BadRequest(*faults)


def _create(_writer: Writer, _who: Credential, _call: Call, _checked: Checked) -> StoredObject:
    raise Forbidden(f"provisioning: to begin one {_PROVISIONING_ALONE}")


def _change(
    writer: Writer, who: Credential, found: StoredObject, changes: Mapping[str, Any], call: Call
) -> StoredObject:
    """Approve, reject, or give another deviceId while it waits."""
    status = _status(found, call.now_ms)
    decision = changes.get("status", "pending")
    wanted = changes.get("deviceId")
    is_same = wanted in (None, found.doc.get("deviceId"))
    if decision in (status, "pending") and is_same:
        return found
    if status != "pending":
        raise Conflict(f"status: is {status} already")
    edit: dict[str, Any] = {}
    if not is_same:
        edit = _override(writer, found, str(wanted))
    if decision == "approved":
        edit |= _approval(writer, found, edit.get("deviceId", found.doc.get("deviceId")), who.at_ms)
    elif decision == "rejected":
        edit["status"] = "rejected"
    return writer.update_object(found, edit, editor=who.account.identity_id)


def _override(writer: Writer, found: StoredObject, wanted: str) -> dict[str, Any]:
    """The approver's deviceId, where the provisioning token lets the approver choose."""
    token = writer.object("provisioning_token", found.doc["provisioningTokenId"])
    if token is not None and _chosen(token, found.state.get("asked"), wanted) != wanted:
        mode = token.doc["deviceIdMode"]
        raise BadRequest(f"deviceId: is not the approver's to choose, deviceIdMode is {mode}")
    taken = _taken(writer, found.account, wanted)
    return {"deviceId": wanted, "replaces": None if taken is None else taken.id}


def _approval(
    writer: Writer, found: StoredObject, device_id: str | None, now_ms: int
) -> dict[str, Any]:
    """The members of an approved operation; a device that nobody has named is named after it."""
    token = writer.object("provisioning_token", found.doc["provisioningTokenId"])
    if device_id is None and token is not None and token.doc["deviceIdMode"] == "approver":
        raise BadRequest("deviceId: is required, deviceIdMode is approver")
    chosen = device_id or f"device-{found.id[1:]}"
    taken = _taken(writer, found.account, chosen)
    return {
        "status": "approved",
        "deviceId": chosen,
        "replaces": None if taken is None else taken.id,
        "expiresAt": now_ms + limits.provisioning_expiry_ms,
    }


def _chosen(token: StoredObject, asked: str | None, approver: str | None) -> str | None:
    """The deviceId by the mode of the provisioning token (``MODES``)."""
    own = token.doc.get("deviceId")
    order = {
        "device": (asked, own),
        "token": (own,),
        "approver": (approver, own),
        "any": (approver, asked, own),
    }[token.doc["deviceIdMode"]]
    return next((each for each in order if each), None)


PROVISIONING = noun_of("provisioning", shown=_shown, check=_check, create=_create, change=_change)
"""The noun of operations."""
