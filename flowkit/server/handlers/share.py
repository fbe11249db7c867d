"""Shares: rights that an account gives to the master token of another one.

A Share is seen by who issued it and by who it was issued to; only the former can remove it. It
reaches an identity, or the members that a Group has at the time of each request.

Source: protocol 1.10 (Share), 8 (credentials).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.query.params import Query
from flowkit.server.auth import Credential, is_live
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.grants import check_grants, demand_own, shown_grant, sweep
from flowkit.server.handlers.objects import demand_master, look_at, noun_of, owns
from flowkit.server.handlers.verbs import Looked, Show
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["FLAGS", "SHARE"]

FLAGS = ("read", "write", "dropRead", "dropWrite", "administer")
"""The flags that a Share may have."""


def _seen(reader: Reader, who: Credential, found: StoredObject) -> bool:
    if not is_live(found.doc, who.at_ms):
        return False
    return owns(who, found) or _reaches(reader, who, found)


def _reaches(reader: Reader, who: Credential, found: StoredObject) -> bool:
    """Whether it was issued to the caller or to a group that it is in."""
    identity_id, issued_to = who.account.identity_id, found.doc["issuedTo"]
    return who.is_owner and (issued_to == identity_id or issued_to in reader.groups_of(identity_id))


def _look(call: Call, query: Query, reader: Reader, who: Credential, show: Show) -> Looked:
    """Those that the account issued, and those that were issued to it."""
    docs: dict[str, dict[str, Any]] = {}
    if who.is_owner:
        issued = reader.objects("share", account=who.account.name)
        for one in (*issued, *reader.shares_to(who.account.identity_id)):
            if is_live(one.doc, who.at_ms):
                docs[one.id] = shown_grant(one, who.at_ms)
    return look_at(docs.values(), call, query, "share", show)


def _shown(_reader: Reader, who: Credential, found: StoredObject, _call: Call) -> dict[str, Any]:
    return shown_grant(found, who.at_ms)


def _check(_call: Call, checked: Checked) -> None:
    check_grants(checked, "Share", FLAGS)


def _create(writer: Writer, who: Credential, _call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a Share")
    demand_own(who, checked.members["paths"])
    issued_to = checked.members["issuedTo"]
    issuer = who.account.identity_id
    if issued_to == issuer:
        raise BadRequest("issuedTo: is the account itself, which has every right here already")
    if writer.identity(issued_to) is None and writer.object("group", issued_to) is None:
        raise BadRequest(f"issuedTo: there is no Identity and no Group {issued_to}")
    sweep(writer, "share", who)
    _refuse_too_many(writer, who, issued_to)
    members = {**checked.members, "issuedBy": issuer}
    return writer.create_object("share", who.account.name, members, creator=issuer)


def _refuse_too_many(writer: Writer, who: Credential, issued_to: str) -> None:
    issued = writer.objects("share", account=who.account.name)
    most = limits.shares_per_receiver_max
    if sum(one.doc["issuedTo"] == issued_to for one in issued) >= most:
        raise BadRequest(
            f"issuedTo: has {most} Shares of this account already; put their paths into one Share"
        )


def _affected(reader: Reader, found: StoredObject) -> Iterable[str]:
    """The accounts that it is issued to."""
    issued_to = found.doc["issuedTo"]
    group = reader.object("group", issued_to)
    for identity_id in group.doc["memberIds"] if group else [issued_to]:
        account = reader.account_of(identity_id)
        if account is not None:
            yield account.name


SHARE = noun_of(
    "share",
    seen=_seen,
    look=_look,
    shown=_shown,
    check=_check,
    create=_create,
    affected=_affected,
)
"""The noun of Shares."""
