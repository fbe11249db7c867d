"""Identities: what is particular about them.

An account finds itself, first of all. Others it may look up by id, or by a find whose filter names
``name`` or ``id``, to issue a Share to them or to put them into a Group; of others it sees ``id``,
``name`` and ``icon``, and a filter sees no more of them than it does. A Token sees its own account
only. The master token is kept only as a digest, so ``masterToken`` never stands in an answer.

Source: protocol 1.8 (Identity), 3.5 (routes), 8.2 (with a Token).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowkit import limits
from flowkit.errors import Forbidden
from flowkit.protocol.resources import RESOURCES
from flowkit.query.nodes import And, Comparison, Filter, In
from flowkit.query.params import Query
from flowkit.server.auth import Credential, is_live
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.objects import demand_master, look_at
from flowkit.server.handlers.verbs import Looked, Noun, Show
from flowkit.server.listing import members_of
from flowkit.server.showing import shown_identity
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["IDENTITY"]

_ADMINISTRATION = "Accounts are made and removed by the server's administrator only"
_LOOKED_UP_BY = ("name", "id")


def _seen(reader: Reader, who: Credential, ids: Sequence[str]) -> dict[str, StoredObject]:
    if not who.is_owner and any(each != who.account.identity_id for each in ids):
        raise Forbidden("A Token can look at the Identity of its own account only")
    found = {key: reader.identity(key) for key in ids}
    return {key: _as_object(doc) for key, doc in found.items() if doc is not None}


def _as_object(doc: dict[str, Any]) -> StoredObject:
    return StoredObject("identity", doc["name"], doc)


def _look(call: Call, query: Query, reader: Reader, who: Credential, show: Show) -> Looked:
    """The caller's own, first; others too, if the filter asks for somebody."""
    own_id = who.account.identity_id
    ids = [own_id, *(_others(reader, query.filter) if who.is_owner else ())]
    stored = _seen(reader, who, list(dict.fromkeys(ids)))
    docs = [_shown(reader, who, one, call) for one in stored.values()]
    every = replace(query, start=0, limit=limits.find_limit_max)
    looked = look_at(docs, call, every, "identity", lambda doc: doc)
    looked.shown.sort(key=lambda doc: doc["id"] != own_id)  # the others stay in their order
    shown = looked.shown[query.start : query.start + query.limit]
    return Looked([show(doc) for doc in shown], looked.plan)


def _others(reader: Reader, asked: Filter) -> Iterable[str]:
    """The ids of the identities that a filter may be about; none if it names nobody."""
    names = _names(asked)
    if names is not None:
        accounts = [reader.account(name) for name in names]
        return [account.identity_id for account in accounts if account is not None]
    if any(path[0] in _LOOKED_UP_BY for path in members_of(asked)):
        return [account.identity_id for account in reader.accounts()]
    return ()


def _names(asked: Filter) -> list[str] | None:
    """The names that alone can match, where the filter says so: ``name == "bob"`` is a look-up."""
    for rule in asked.operands if isinstance(asked, And) else (asked,):
        if isinstance(rule, Comparison) and rule.path == ("name",) and rule.op == "==":
            return [rule.value] if isinstance(rule.value, str) else []
        if isinstance(rule, In) and rule.path == ("name",) and isinstance(rule.values, tuple):
            return [value for value in rule.values if isinstance(value, str)]
    return None


def _shown(reader: Reader, who: Credential, found: StoredObject, _call: Call) -> dict[str, Any]:
    if found.id != who.account.identity_id:
        return shown_identity(found.doc, who)
    shares = {
        share.id: {"paths": share.doc["paths"]}
        for share in reader.shares_to(found.id)
        if is_live(share.doc, who.at_ms)
    }
    doc = dict(found.doc)
    if group_ids := reader.groups_of(found.id):
        doc["groupIds"] = group_ids
    if shares:
        doc["shares"] = shares
    return shown_identity(doc, who)


def _check(_call: Call, _checked: Checked) -> None:
    """Nothing more to look at than the table of members."""


def _create(_writer: Writer, _who: Credential, _call: Call, _checked: Checked) -> StoredObject:
    raise Forbidden(_ADMINISTRATION)


def _demand_change(_reader: Reader, who: Credential, found: StoredObject) -> None:
    demand_master(who, "change an Identity")
    if found.id != who.account.identity_id:
        raise Forbidden("The Identity belongs to another account")


def _change(
    writer: Writer, _who: Credential, found: StoredObject, changes: Mapping[str, Any], _call: Call
) -> StoredObject:
    doc = writer.update_identity(found.id, changes, editor=found.id)
    return StoredObject("identity", found.account, doc)


def _remove(_writer: Writer, _who: Credential, _found: StoredObject) -> None:
    raise Forbidden(_ADMINISTRATION)


IDENTITY = Noun(
    resource=RESOURCES["identity"],
    seen=_seen,
    look=_look,
    shown=_shown,
    check=_check,
    create=_create,
    demand_change=_demand_change,
    change=_change,
    remove=_remove,
    is_announced=False,
)
"""The noun of Identities."""
