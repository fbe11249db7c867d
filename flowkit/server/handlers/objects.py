"""What tracks, groups, tokens, shares, devices and tasks have in common, as parts of their nouns.

An object belongs to an account. Its owner's master token may see and change it; others may where
the object has a **place**, a path that it is about (a track's source, a device's path), and they
may ``read`` or ``write`` there. A resource without a place is its owner's alone, unless its own
module says more.

A find looks at all objects of a kind that there are, one by one (``sifting.py``).

Source: protocol 8.2 (what each flag allows), 3.4 (404 before 403).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flowkit.errors import Forbidden
from flowkit.protocol.resources import RESOURCES
from flowkit.query.params import Query
from flowkit.server.access import demand
from flowkit.server.auth import Credential, may
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.sifting import InPart, Kind, View, sifted
from flowkit.server.handlers.verbs import Looked, Noun, Show
from flowkit.server.listing import look
from flowkit.server.store.base import Reader, StoredObject, Writer
from flowkit.server.store.functions import RegexBudget

__all__ = ["demand_master", "look_at", "noun_of", "owns"]

PLACES: Mapping[str, tuple[str, ...]] = {
    "track": ("source",),
    "device": ("path",),
    "api_task": ("destination",),
    "rss_task": ("destination",),
    "mqtt_task": ("destination", "source"),
}
"""Resource to the members that may hold the place of its objects; the first one set is it."""

AT_HOME = frozenset({"device", "provisioning", "provisioning_token", "stream", "token"})
"""Resources whose objects are nowhere but in the namespace of their own account."""

Seen = Callable[[Reader, Credential, StoredObject], bool]


def place_of(kind: str, doc: Mapping[str, Any]) -> str | None:
    """The path that an object is about, None if it is about none."""
    return next((doc[name] for name in PLACES.get(kind, ()) if doc.get(name)), None)


def owns(who: Credential, found: StoredObject) -> bool:
    """Whether *who* is the owner, with the master token."""
    return who.is_owner and found.account == who.account.name


def demand_master(who: Credential, what: str) -> None:
    """Refuse a Token: *what* (``make a Group``) takes the master token (8.2).

    Raises:
        Forbidden: it is one.
    """
    if not who.is_owner:
        raise Forbidden(f"A Token cannot {what}: it takes the right 'write', the master token's")


def is_seen(_reader: Reader, who: Credential, found: StoredObject) -> bool:
    """Whether *who* may read an object."""
    if owns(who, found):
        return True
    place = place_of(found.kind, found.doc)
    return place is not None and bool(may(who, "read", place))


def demand_change(_reader: Reader, who: Credential, found: StoredObject) -> None:
    """Refuse unless *who* may change an object that it sees."""
    if owns(who, found):
        return
    place = place_of(found.kind, found.doc)
    if place is None:
        demand_master(who, f"change a {_spoken(found.kind)}")
        raise Forbidden(f"The {_spoken(found.kind)} belongs to another account")
    demand(who, "write", place)


def look_at(
    docs: Iterable[dict[str, Any]], call: Call, query: Query, kind: str, show: Show
) -> Looked:
    """A find over documents that the caller may read."""
    budget = RegexBudget()
    found = look(docs, query, kind, now_ms=call.now_ms, places=call.places, search=budget.search)
    plan = {
        "sql": None,
        "filterInSql": "",
        "filterInPython": str(query.filter) or None,
        "limitIn": "python",
        "index": None,
    }
    return Looked([show(doc) for doc in found], plan)


def _accounts(who: Credential, kind: str) -> Sequence[str] | None:
    """The accounts among whose objects of a kind are all that *who* may see; None for any.

    What lies at home is read of the accounts alone that *who* has rights in.
    """
    if kind not in AT_HOME:
        return None
    return sorted({who.account.name, *(grant.path.split("/")[1] for grant in who.grants)})


def noun_of(
    kind: str, *, seen: Seen = is_seen, in_part: InPart | None = None, **particular: Any
) -> Noun:
    """The noun of a kind of objects.

    Args:
        kind: the name of the resource.
        seen: whether a caller may read an object.
        in_part: how a find reads these objects in part; None: it reads them whole.
        particular: the attributes of ``Noun`` in which this resource differs from the others.
    """

    def seen_among(reader: Reader, who: Credential, ids: Sequence[str]) -> dict[str, StoredObject]:
        found = {each: reader.object(kind, each) for each in ids}
        return {
            key: one for key, one in found.items() if one is not None and seen(reader, who, one)
        }

    def look_through(
        call: Call, query: Query, reader: Reader, who: Credential, show: Show
    ) -> Looked:
        view = View(
            seen=lambda one: seen(reader, who, one),
            shown=lambda one: noun.shown(reader, who, one, call),
            show=show,
        )
        owned = who.account.name if who.is_owner else None
        return sifted(call, query, reader, Kind(kind, _accounts(who, kind), owned, in_part), view)

    parts: dict[str, Any] = {
        "seen": seen_among,
        "look": look_through,
        "shown": _shown,
        "check": _check,
        "create": _creator(kind),
        "demand_change": demand_change,
        "change": _change,
        "remove": _remove,
    }
    noun = Noun(resource=RESOURCES[kind], **(parts | particular))
    return noun


def _shown(_reader: Reader, _who: Credential, found: StoredObject, _call: Call) -> dict[str, Any]:
    return found.doc


def _check(_call: Call, _checked: Checked) -> None:
    """Nothing more to look at than the table of members."""


def _creator(kind: str) -> Callable[[Writer, Credential, Call, Checked], StoredObject]:
    def create(writer: Writer, who: Credential, _call: Call, checked: Checked) -> StoredObject:
        demand_master(who, f"make a {_spoken(kind)}")
        place = place_of(kind, checked.members)
        if place is not None:
            demand(who, "write", place)
        account = who.account
        return writer.create_object(
            kind, account.name, checked.members, creator=account.identity_id
        )

    return create


def _change(
    writer: Writer, who: Credential, found: StoredObject, changes: Mapping[str, Any], _call: Call
) -> StoredObject:
    return writer.update_object(found, changes, editor=who.account.identity_id)


def _remove(writer: Writer, _who: Credential, found: StoredObject) -> None:
    writer.delete_object(found)


def _spoken(kind: str) -> str:
    """The resource as its name stands in sentences: ``api_task`` is a Task."""
    return "Task" if kind.endswith("_task") else kind.capitalize()
