"""The Tokens of a Device and its Flows: how it gets them, renews them and loses them.

A Device has one Token, ``tokenId``, and after it was renewed for a while the one before, too, since
the answer with the new one may have been lost. The older of the two ends for good when the newer
one is first used to renew; renewing with the older one ends the newer, which then never arrived.

What the Token of a Device may do follows from the Flows below its path (11).

Source: protocol 1.11, 11; ``docs/reference/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Forbidden
from flowkit.protocol.properties import device_id_fault
from flowkit.server.announce import announce
from flowkit.server.auth import Credential, covers, expiry_of
from flowkit.server.handlers.revoking import GRACE, delete_token, tokens_of
from flowkit.server.handlers.token import issue
from flowkit.server.store.base import StoredObject, Writer

__all__ = [
    "FLOWS",
    "UNSEEN",
    "check_path",
    "make_device",
    "make_flows",
    "path_of",
    "renew",
    "replace_token",
    "seen",
    "string_of",
]

FLOWS: Mapping[str, Mapping[str, bool]] = {
    "default": {"dropRead": True, "dropWrite": True},
    "commands": {"dropRead": True},
    "reports": {"dropWrite": True},
    "properties": {"dropRead": True},
}
"""The Flows below the path of a Device, and what its Token may do with the Drops of each."""

UNSEEN = "UNSEEN"

_TOLD_ONCE = "told"
"""As in ``token.py``: where a string that is not kept rides to the answer."""

_PATH_CHARS_MAX = limits.path_chars_max - max(len(f"/{name}") for name in FLOWS)


def check_path(path: str) -> None:
    """Refuse a path of a Device that leaves no room for the names of its Flows.

    Raises:
        BadRequest: it is too long.
    """
    if len(path) > _PATH_CHARS_MAX:
        raise BadRequest(
            f"path: must have at most {_PATH_CHARS_MAX} characters,"
            " since the names of the Device's Flows come behind it"
        )


def path_of(account: str, device_id: str) -> str:
    """Where the Device of that id is made.

    Raises:
        BadRequest: it is no id of a Device, or too long behind the name of the account.
    """
    fault = device_id_fault(device_id)
    if fault:
        raise BadRequest(fault)
    path = f"/{account}/devices/{device_id.lower()}"
    if len(path) > _PATH_CHARS_MAX:
        most = _PATH_CHARS_MAX - len(path) + len(device_id)
        raise BadRequest(f"deviceId: must have at most {most} characters in this account")
    return path


def string_of(token: StoredObject) -> str:
    """The secret of a Token that was issued just now."""
    return str(token.state.get(_TOLD_ONCE) or token.state["tokenString"])


def make_device(
    writer: Writer, who: Credential, members: Mapping[str, Any], *, keep: bool, **known: Any
) -> tuple[StoredObject, StoredObject]:
    """A new Device with its Flows and Token, in the namespace of the account of *who*.

    Args:
        writer: the store.
        who: makes it, or is allowed to have it made.
        members: normalised members of a create; its ``path`` and ``deviceId`` were checked.
        keep: whether the string of the Token can be read again later.
        known: what the server keeps of it: ``registrationDuration`` (ms) …

    Returns:
        the Device and its Token, which has its string (``string_of``).

    Raises:
        Forbidden: the path is in another namespace.
    """
    account, path = who.account, members["path"]
    if not covers(f"/{account.name}", path):
        raise Forbidden(
            f"path: {path} is not in the namespace of the account {account.name}, and a Token"
            " for it can be made only there"
        )
    make_flows(writer, who, path)
    device = writer.create_object(
        "device",
        account.name,
        {"status": UNSEEN, **members},
        creator=account.identity_id,
        state=known,
    )
    return _with_token(writer, who, device, keep=keep)


def make_flows(writer: Writer, who: Credential, path: str) -> None:
    """The Flows of a Device that are not there yet."""
    for name in FLOWS:
        if writer.flow_at(f"{path}/{name}") is None:
            flow = writer.create_flow({"path": f"{path}/{name}"}, creator=who.account.identity_id)
            announce(writer, who, "CREATE", "flow", flow.doc)


def replace_token(
    writer: Writer, who: Credential, device: StoredObject, *, keep: bool, **known: Any
) -> tuple[StoredObject, StoredObject]:
    """A new Token for a Device that is there; those before it end now. Returns both."""
    make_flows(writer, who, device.doc["path"])
    for token in tokens_of(writer, device):
        delete_token(writer, who, token)
    state = {name: value for name, value in {**device.state, **known}.items() if name != GRACE}
    device = writer.update_object(device, {}, editor=None, state=state)
    return _with_token(writer, who, device, keep=keep)


def renew(
    writer: Writer, who: Credential, device: StoredObject, used: StoredObject, *, keep: bool
) -> tuple[StoredObject, StoredObject]:
    """A new Token for a Device that has shown the Token *used*; returns the Device and it.

    The Token that was used works on for ``limits.registration_grace_ms`` at most.
    """
    for token in tokens_of(writer, device):
        if token.id != used.id:
            delete_token(writer, who, token)
    ends = expiry_of(used.doc)
    grace_ends = who.at_ms + limits.registration_grace_ms
    if used.id == device.doc["tokenId"] and (ends is None or ends > grace_ends):
        duration = grace_ends - int(used.doc["creationDate"])
        writer.update_object(used, {"duration": duration}, editor=None)
    state = {**device.state, GRACE: used.id}
    device = writer.update_object(device, {}, editor=None, state=state)
    return _with_token(writer, who, device, keep=keep)


def seen(device: StoredObject, now_ms: int) -> dict[str, Any]:
    """What changes of a Device that has just spoken of itself."""
    is_new = device.doc.get("status") == UNSEEN
    return {"lastSeen": now_ms, **({"status": "OK"} if is_new else {})}


def _with_token(
    writer: Writer, who: Credential, device: StoredObject, *, keep: bool
) -> tuple[StoredObject, StoredObject]:
    path = device.doc["path"]
    members = {
        "paths": {f"{path}/{name}": dict(flags) for name, flags in FLOWS.items()},
        "description": f"the Device at {path}",
    }
    duration = device.state.get("registrationDuration")
    if duration:
        members["duration"] = duration
    token = issue(writer, who.account, members, keep=keep, device_id=device.id)
    announce(writer, who, "CREATE", "token", token.doc)
    return writer.update_object(device, {"tokenId": token.id}, editor=None), token
