"""Devices: one physical device with its Token and its Flows; what is particular about them.

A Device is made in one commit with its Token and the Flows ``default`` (its data), ``commands`` (to
it) and ``reports`` (about itself) below its path; Flows that are there already are used. The agent
on the device keeps ``lastSeen``, ``status`` and ``deviceSummary`` of its own Device up to date with
that Token, and changes nothing else.

Its Token gone, a Device is disabled: its ``status`` is then shown as ``DISABLED``, whatever it said
last. Deleting a Device takes its Token along and leaves the Flows.

Source: protocol 1.11 (Device), 11 (devices), 8.2 (what a Token may do).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Forbidden
from flowkit.server.access import demand
from flowkit.server.announce import announce
from flowkit.server.auth import Credential, covers
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.objects import demand_change, demand_master, is_seen, noun_of
from flowkit.server.handlers.token import hand_over, issue
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["DEVICE"]

FLOWS: Mapping[str, Mapping[str, bool]] = {
    "default": {"dropRead": True, "dropWrite": True},
    "commands": {"dropRead": True},
    "reports": {"dropWrite": True},
}
"""The Flows below the path of a Device, and what its Token may do with the Drops of each."""

OWN_MEMBERS = frozenset({"lastSeen", "status", "deviceSummary"})
"""What the Token of a Device may change of it."""

UNSEEN, DISABLED = "UNSEEN", "DISABLED"

_TOLD_ONCE = "told"
"""As in ``token.py``: where a string that is not kept rides to the answer of the create."""

_PATH_CHARS_MAX = limits.path_chars_max - max(len(f"/{name}") for name in FLOWS)

_NOT_ITS_OWN = "the Token of a Device may change only its lastSeen, status and deviceSummary"


def _is_own_token(who: Credential, found: StoredObject) -> bool:
    return who.token_id is not None and who.token_id == found.doc.get("tokenId")


def _seen(reader: Reader, who: Credential, found: StoredObject) -> bool:
    return _is_own_token(who, found) or is_seen(reader, who, found)


def _shown(reader: Reader, _who: Credential, found: StoredObject, call: Call) -> dict[str, Any]:
    seen = found.doc.get("lastSeen")
    more: dict[str, Any] = {
        "timeSinceLastSeen": -1 if seen is None else max(0, call.now_ms - int(seen))
    }
    if reader.object("token", found.doc["tokenId"]) is None:
        more["status"] = DISABLED
    told = found.state.get(_TOLD_ONCE)
    return found.doc | more | ({"tokenString": told} if told else {})


def _check(_call: Call, checked: Checked) -> None:
    path = checked.members.get("path")
    if path is not None and len(path) > _PATH_CHARS_MAX:
        raise BadRequest(
            f"path: must have at most {_PATH_CHARS_MAX} characters,"
            " since the names of the Device's Flows come behind it"
        )


def _create(writer: Writer, who: Credential, call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a Device")
    path = checked.members["path"]
    if not covers(f"/{who.account.name}", path):
        raise Forbidden(
            f"path: {path} is not in the namespace of the account {who.account.name}, and a Token"
            " for it can be made only there"
        )
    _make_flows(writer, who, path)
    keep = call.settings.keep_token_strings
    members = {
        "paths": {f"{path}/{name}": dict(flags) for name, flags in FLOWS.items()},
        "description": f"the Device at {path}",
    }
    token = issue(writer, who.account, members, keep=keep)
    announce(writer, who, "CREATE", "token", token.doc)
    made = writer.create_object(
        "device",
        who.account.name,
        {"status": UNSEEN, **checked.members, "tokenId": token.id},
        creator=who.account.identity_id,
    )
    hand_over(writer, token.id, made.id)
    return made if keep else replace(made, state={_TOLD_ONCE: token.state[_TOLD_ONCE]})


def _make_flows(writer: Writer, who: Credential, path: str) -> None:
    """The Flows of a Device that are not there yet."""
    for name in FLOWS:
        if writer.flow_at(f"{path}/{name}") is None:
            flow = writer.create_flow({"path": f"{path}/{name}"}, creator=who.account.identity_id)
            announce(writer, who, "CREATE", "flow", flow.doc)


def _demand_change(reader: Reader, who: Credential, found: StoredObject) -> None:
    if not _is_own_token(who, found):
        demand_change(reader, who, found)


def _change(
    writer: Writer, who: Credential, found: StoredObject, changes: Mapping[str, Any], _call: Call
) -> StoredObject:
    if _is_own_token(who, found):
        changed = {name for name, value in changes.items() if value != found.doc.get(name)}
        if changed - OWN_MEMBERS:
            raise Forbidden(*(f"{name}: {_NOT_ITS_OWN}" for name in sorted(changed - OWN_MEMBERS)))
    return writer.update_object(found, changes, editor=who.account.identity_id)


def _remove(writer: Writer, who: Credential, found: StoredObject) -> None:
    if _is_own_token(who, found):
        demand(who, "write", found.doc["path"])
    token = writer.object("token", found.doc["tokenId"])
    if token is not None:
        announce(writer, who, "DELETE", "token", token.doc)
        writer.delete_object(token)
    writer.delete_object(found)


def _kept(doc: dict[str, Any], _call: Call) -> dict[str, Any]:
    """What of the answer to a create is kept for its repetition: no secret."""
    return {name: value for name, value in doc.items() if name != "tokenString"}


DEVICE = noun_of(
    "device",
    seen=_seen,
    shown=_shown,
    check=_check,
    create=_create,
    demand_change=_demand_change,
    change=_change,
    remove=_remove,
    kept=_kept,
)
"""The noun of Devices."""
