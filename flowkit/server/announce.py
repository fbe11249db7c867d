"""Notifications about changes in a namespace, in the account's ``:inbox``.

Each is a Drop, written in the commit of the change that it tells of, through the path that every
Drop takes: so Tracks and subscribers of an inbox see it. The inbox is made with the first
notification. Its owner may change it like any Flow; where its filter refuses a notification there
is none, and the change goes on.

A notification says what was changed and by whom. It names members that tell one object from
another and never a secret; whoever may read the inbox may read them.

Source: protocol 1.13 (system Flows).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.server import ingest
from flowkit.server.auth import Credential
from flowkit.server.checking import Checked
from flowkit.server.store.base import Account, Writer

__all__ = ["announce", "inbox_of"]

SUMMARIES: Mapping[str, tuple[str, ...]] = {
    "flow": ("path",),
    "track": ("source", "destination", "description"),
    "group": ("displayName",),
    "token": ("paths", "description"),
    "share": ("issuedTo", "paths", "description"),
    "device": ("path", "deviceId", "displayName"),
    "provisioning_token": ("description", "deviceId"),
    "provisioning": ("status", "deviceId"),
    "stream": ("group", "name"),
    "api_task": ("destination", "displayName"),
    "rss_task": ("destination", "displayName"),
    "mqtt_task": ("source", "destination", "displayName"),
}
"""Resource to the members that ``details.summary`` shows. None of them may hold a secret."""


def announce(
    writer: Writer,
    who: Credential,
    action: str,
    resource_name: str,
    doc: Mapping[str, Any],
    *,
    also: Iterable[str] = (),
) -> None:
    """Tell the namespaces that a change touches.

    Args:
        writer: the transaction of the change.
        who: makes the change.
        action: ``CREATE``, ``UPDATE`` or ``DELETE``.
        resource_name: of the object: ``flow``, ``api_task`` …
        doc: the object after the change, or as it was before it went.
        also: names of accounts, beside the owner's, that it touches.
    """
    owner = _owner(writer, who, resource_name, doc)
    names = list(dict.fromkeys([owner.name, *also]))
    summary = {name: doc[name] for name in SUMMARIES[resource_name] if name in doc}
    elems = {
        "kind": "NOTIFICATION",
        "action": action,
        "object": {"kind": resource_name.upper(), "id": doc["id"]},
        "user": {"name": who.account.name, "id": who.account.identity_id},
        "namespacesAffected": names,
        "details": {"summary": summary},
    }
    for name in names:
        account = owner if name == owner.name else writer.account(name)
        if account is not None:
            _put(writer, who, account, elems)


def inbox_of(account: str) -> str:
    """The path of an account's inbox."""
    return f"/{account}/:inbox"


def _owner(writer: Writer, who: Credential, resource_name: str, doc: Mapping[str, Any]) -> Account:
    """Whose namespace an object is in: a Flow's path says it, an object is its creator's."""
    if resource_name == "flow":
        name = str(doc["path"]).split("/", 2)[1]
        found = who.account if name == who.account.name else writer.account(name)
    else:
        creator = doc.get("creatorId")
        found = who.account if creator == who.account.identity_id else None
        found = found or writer.account_of(str(creator))
    return found or who.account


def _put(writer: Writer, who: Credential, account: Account, elems: dict[str, Any]) -> None:
    """One notification, written in the name of the account whose inbox it is."""
    path = inbox_of(account.name)
    flow = writer.flow_at(path)
    if flow is None:
        members = {"path": path, "capacity": limits.inbox_capacity}
        flow = writer.create_flow(members, creator=account.identity_id)
    keeper = Credential(account, "identity", at_ms=who.at_ms)
    arrival = ingest.Arrival(Checked({"elems": elems}, {}), who.at_ms, flow=flow)
    try:
        ingest.create(writer, keeper, arrival)
    except BadRequest:
        return  # refused by the filter that its owner gave to the inbox
