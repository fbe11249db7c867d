"""Tokens: limited credentials for devices and apps.

The secret, ``tokenString``, is looked up by its digest. The string itself is kept too unless the
setting ``keep_token_strings`` is off: then the answer to the create is the only one that has it,
and nothing that is stored does, the kept answer of a request id included.

The Token of a Device that has expired is kept: with it and a provisioning token the Device gets a
new one without a person (``provisioning.py``).

A Token sees itself and no other; it makes, changes and removes nothing but Drops.

Source: protocol 1.9 (Token), 8 (credentials).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowkit.server.auth import Credential, expiry_of, hash_secret, is_live, mint_token_string
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.grants import check_grants, demand_own, shown_grant, sweep
from flowkit.server.handlers.objects import demand_master, noun_of, owns
from flowkit.server.handlers.revoking import end_registration
from flowkit.server.handlers.sifting import InPart
from flowkit.server.store.base import Account, Reader, StoredObject, Writer

__all__ = ["FLAGS", "TOKEN", "issue"]

FLAGS = ("dropRead", "dropWrite", "administer")
"""The flags that a Token may have; it may ``read`` everything on its paths without one."""

_TOLD_ONCE = "told"


def issue(
    writer: Writer,
    account: Account,
    members: Mapping[str, Any],
    *,
    keep: bool,
    device_id: str | None = None,
) -> StoredObject:
    """A new Token of *account*; the caller has checked that these *members* may be.

    Args:
        writer: the store.
        account: whose it is; its identity is the issuer.
        members: normalised members of a create.
        keep: whether its string can be read again later.
        device_id: the id of the Device that it is for: ``Credential.device_id`` of who comes with
            it. The Device gets its lines of sending by that, whichever of its Tokens it shows.
    """
    secret = mint_token_string()
    issuer = account.identity_id
    state = {"tokenString": secret if keep else None, "deviceId": device_id}
    made = writer.create_object(
        "token",
        account.name,
        {**members, "issuedBy": issuer},
        creator=issuer,
        state={name: value for name, value in state.items() if value is not None},
    )
    writer.create_credential(hash_secret(secret), account.name, made.id, expiry_of(made.doc))
    return made if keep else replace(made, state={**made.state, _TOLD_ONCE: secret})


def _seen(_reader: Reader, who: Credential, found: StoredObject) -> bool:
    is_own = owns(who, found) or found.id == who.token_id
    return is_own and is_live(found.doc, who.at_ms)


def _shown(_reader: Reader, who: Credential, found: StoredObject, call: Call) -> dict[str, Any]:
    doc = shown_grant(found, who.at_ms)
    string = found.state.get(_TOLD_ONCE)
    if call.settings.keep_token_strings:
        string = found.state.get("tokenString")
    return doc | {"tokenString": string} if string else doc


def _check(_call: Call, checked: Checked) -> None:
    check_grants(checked, "Token", FLAGS)


def _create(writer: Writer, who: Credential, call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a Token")
    demand_own(who, checked.members["paths"])
    sweep(writer, "token", who)
    return issue(writer, who.account, checked.members, keep=call.settings.keep_token_strings)


def _remove(writer: Writer, who: Credential, found: StoredObject) -> None:
    """With one of its Tokens a Device loses the other, too."""
    writer.delete_object(found)
    device = writer.object("device", found.state.get("deviceId", ""))
    if device is not None:
        end_registration(writer, who, device)


def _kept(doc: dict[str, Any], call: Call) -> dict[str, Any]:
    """What of the answer to a create is kept for its repetition: no string that is not kept."""
    if call.settings.keep_token_strings:
        return doc
    return {name: value for name, value in doc.items() if name != "tokenString"}


_IN_PART = InPart(
    read=("duration",), made=frozenset({"tokenString", "expiresInMs"}), defaults=frozenset()
)

TOKEN = noun_of(
    "token",
    seen=_seen,
    in_part=_IN_PART,
    shown=_shown,
    check=_check,
    create=_create,
    remove=_remove,
    kept=_kept,
)
"""The noun of Tokens."""
