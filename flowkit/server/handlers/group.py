"""Groups: lists of identities to which one Share can be issued.

A Group is seen by its owner and by its members; only the owner can change or remove it. A Share
to a Group reaches who is a member at the time of each request, so leaving it ends those rights.

Source: protocol 1.7 (Group), 8.2 (a Share to a Group).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.query.params import Query
from flowkit.server.auth import Credential
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.objects import demand_master, look_at, noun_of, owns
from flowkit.server.handlers.verbs import Looked, Show
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["GROUP"]


def _seen(_reader: Reader, who: Credential, found: StoredObject) -> bool:
    is_member = who.is_owner and who.account.identity_id in found.doc["memberIds"]
    return is_member or owns(who, found)


def _look(call: Call, query: Query, reader: Reader, who: Credential, show: Show) -> Looked:
    """Those of the account, and those that it is a member of."""
    docs: dict[str, dict[str, Any]] = {}
    if who.is_owner:
        for one in reader.objects("group", account=who.account.name):
            docs[one.id] = one.doc
        for group_id in reader.groups_of(who.account.identity_id):
            group = None if group_id in docs else reader.object("group", group_id)
            if group is not None:
                docs[group_id] = group.doc
    return look_at(docs.values(), call, query, "group", show)


def _check(_call: Call, checked: Checked) -> None:
    """Make a set of the members, in the order in which they were named."""
    if "memberIds" not in checked.members:
        return
    member_ids = list(dict.fromkeys(checked.members["memberIds"]))
    if len(member_ids) > limits.group_members_max:
        raise BadRequest(
            f"memberIds: has {len(member_ids)} members, the limit is {limits.group_members_max}"
        )
    checked.members["memberIds"] = member_ids


def _demand_members(reader: Reader, member_ids: list[str]) -> None:
    faults = [
        f"memberIds: there is no Identity {each}"
        for each in member_ids
        if reader.identity(each) is None
    ]
    if faults:
        raise BadRequest(*faults[:20])


def _create(writer: Writer, who: Credential, _call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a Group")
    _demand_members(writer, checked.members["memberIds"])
    creator = who.account.identity_id
    return writer.create_object("group", who.account.name, checked.members, creator=creator)


def _change(
    writer: Writer, who: Credential, found: StoredObject, changes: Mapping[str, Any], _call: Call
) -> StoredObject:
    known = set(found.doc["memberIds"])
    _demand_members(writer, [each for each in changes.get("memberIds", ()) if each not in known])
    return writer.update_object(found, changes, editor=who.account.identity_id)


GROUP = noun_of("group", seen=_seen, look=_look, check=_check, create=_create, change=_change)
"""The noun of Groups."""
