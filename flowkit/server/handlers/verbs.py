"""The eight verbs that every resource but the Drop has, from find to delete.

A ``Noun`` says what is particular about one resource; each verb here is written once for all of
them. Writing announces itself in the inbox (1.13), in the same commit.

Source: protocol 3.4 (404 before 403), 3.5 (CRUD resources), 3.6 (parameters), 1.13 (inbox).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowkit.errors import NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import Resource
from flowkit.query.params import Query
from flowkit.server.announce import announce
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Handler, Result, Work
from flowkit.server.checking import (
    Checked,
    check_create,
    check_ids,
    check_many,
    check_member,
    check_update,
    settle,
)
from flowkit.server.showing import only_members, references, referring
from flowkit.server.store.base import Reader, Writer

__all__ = ["Looked", "Noun", "handlers_of"]

Stored = Any
"""A resource as the store gives it: a ``StoredFlow`` or a ``StoredObject``; it has ``doc``."""

Show = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a find found: what was shown of each object, and the plan for ``explain=1``."""

    shown: list[Any]
    plan: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """What is particular about one resource.

    Attributes:
        resource: its row in the table of resources.
        seen: the objects among some ids that exist and that the caller may read.
        look: runs a find over what the caller may read; *show* makes of each document what is kept.
        shown: the document of an object as the caller may see it.
        check: looks at a body without the store; may normalise members, add notes, or raise.
        create: makes the object, or refuses.
        demand_change: refuses with the reason unless the caller may change this object.
        change: makes changes that were settled.
        remove: removes the object and what hangs on it.
        affected: the accounts, beside its owner's, whose namespaces a change touches (1.13).
        kept: what of the answer to a create is kept for its repetition (3.2).
        is_announced: whether changes show in the inbox.
    """

    resource: Resource
    seen: Callable[[Reader, Credential, Sequence[str]], dict[str, Stored]]
    look: Callable[[Call, Query, Reader, Credential, Show], Looked]
    shown: Callable[[Reader, Credential, Stored, Call], dict[str, Any]]
    check: Callable[[Call, Checked], None]
    create: Callable[[Writer, Credential, Call, Checked], Stored]
    demand_change: Callable[[Reader, Credential, Stored], None]
    change: Callable[[Writer, Credential, Stored, Mapping[str, Any], Call], Stored]
    remove: Callable[[Writer, Credential, Stored], None]
    affected: Callable[[Reader, Stored], Iterable[str]] = lambda _reader, _stored: ()
    kept: Callable[[dict[str, Any], Call], dict[str, Any]] | None = None
    is_announced: bool = True

    @property
    def name(self) -> str:
        """The name of the resource."""
        return self.resource.name


def handlers_of(noun: Noun) -> Mapping[tuple[str, str], Handler]:
    """The handlers of a resource by method and by what follows its name in the address."""
    table: dict[tuple[str, str], Handler] = {
        ("GET", ""): partial(_find, noun),
        ("MGET", ""): partial(_read_many, noun),
        ("POST", ""): partial(_create, noun),
        ("GET", "/{id}"): partial(_read, noun),
        ("DELETE", "/{id}"): partial(_delete, noun),
    }
    if noun.resource.updatable:
        table |= {
            ("MPUT", ""): partial(_update_many, noun),
            ("PUT", "/{id}"): partial(_update, noun),
            ("PUT", "/{id}/{member}"): partial(_update_member, noun),
        }
    return table


# Reading


def _find(noun: Noun, call: Call) -> Work:
    """``GET /<resource>``."""
    query = call.query()

    def work(reader: Reader, who: Credential) -> Result:
        docs: list[dict[str, Any]] = []

        def show(doc: dict[str, Any]) -> dict[str, Any]:
            if query.refs:
                docs.append(referring(doc))
            return only_members(doc, query.only, noun.name)

        looked = noun.look(call, query, reader, who, show)
        result = Result(looked.shown)
        if query.refs:
            result.references = references(reader, who, docs)
        if query.explain:
            result.head["plan"] = looked.plan
        return result

    return work


def _read(noun: Noun, call: Call) -> Work:
    """``GET /<resource>/<id>``."""
    query = call.query()

    def work(reader: Reader, who: Credential) -> Result:
        doc = noun.shown(reader, who, _one(noun, reader, who, call.args["id"]), call)
        result = Result(only_members(doc, query.only, noun.name))
        if query.refs:
            result.references = references(reader, who, [doc])
        return result

    return work


def _read_many(noun: Noun, call: Call) -> Work:
    """``MGET /<resource>``: unknown and unreadable ids are left out."""
    query = call.query()
    ids = check_ids(call.body())

    def work(reader: Reader, who: Credential) -> Result:
        found = noun.seen(reader, who, ids)
        docs = {key: noun.shown(reader, who, stored, call) for key, stored in found.items()}
        result = Result(
            {key: only_members(doc, query.only, noun.name) for key, doc in docs.items()}
        )
        if query.refs:
            result.references = references(reader, who, docs.values())
        return result

    return work


# Writing


def _create(noun: Noun, call: Call) -> Work:
    """``POST /<resource>``."""
    call.query()
    checked = check_create(noun.resource, call.body())
    noun.check(call, checked)
    call.note(checked.notes)

    def work(writer: Writer, who: Credential) -> Result:
        stored = noun.create(writer, who, call, checked)
        _announce(noun, writer, who, "CREATE", stored)
        result = Result(noun.shown(writer, who, stored, call), status=201)
        if noun.kept is not None:
            result.kept = noun.kept(result.body, call)
        return result

    return work


def _update(noun: Noun, call: Call) -> Work:
    """``PUT /<resource>/<id>``."""
    call.query()
    checked = _checked(noun, call, call.body())

    def work(writer: Writer, who: Credential) -> Result:
        return Result(_changed(noun, call, writer, who, object_id=call.args["id"], checked=checked))

    return work


def _update_many(noun: Noun, call: Call) -> Work:
    """``MPUT /<resource>``: all or nothing."""
    call.query()
    changes = check_many(call.body(), lambda body: _checked(noun, call, body))

    def work(writer: Writer, who: Credential) -> Result:
        found = noun.seen(writer, who, list(changes))
        if len(found) < len(changes):
            raise NotFound(NOT_LOCATED)
        for stored in found.values():
            noun.demand_change(writer, who, stored)
        return Result(
            {
                key: _changed(noun, call, writer, who, object_id=key, checked=each)
                for key, each in changes.items()
            }
        )

    return work


def _update_member(noun: Noun, call: Call) -> Work:
    """``PUT /<resource>/<id>/<member>``."""
    call.query()
    name = call.args["member"]
    checked = _checked(noun, call, check_member(noun.resource, name, call.body()))

    def work(writer: Writer, who: Credential) -> Result:
        doc = _changed(noun, call, writer, who, object_id=call.args["id"], checked=checked)
        return Result({name: doc[name]} if name in doc else {})

    return work


def _delete(noun: Noun, call: Call) -> Work:
    """``DELETE /<resource>/<id>``."""
    call.query()

    def work(writer: Writer, who: Credential) -> Result:
        stored = _one(noun, writer, who, call.args["id"])
        noun.demand_change(writer, who, stored)
        _announce(noun, writer, who, "DELETE", stored)
        noun.remove(writer, who, stored)
        return Result({})

    return work


def _one(noun: Noun, reader: Reader, who: Credential, object_id: str) -> Stored:
    """The object with that id, if the caller may read it; 404 otherwise."""
    stored = noun.seen(reader, who, [object_id]).get(object_id)
    if stored is None:
        raise NotFound(NOT_LOCATED)
    return stored


def _checked(noun: Noun, call: Call, body: Any) -> Checked:
    checked = check_update(noun.resource, body)
    noun.check(call, checked)
    return checked


def _changed(
    noun: Noun, call: Call, writer: Writer, who: Credential, *, object_id: str, checked: Checked
) -> dict[str, Any]:
    """The document after the changes, as the caller may see it."""
    stored = _one(noun, writer, who, object_id)
    noun.demand_change(writer, who, stored)
    changes = settle(noun.resource, checked, stored.doc)
    call.note(checked.notes)
    changed = noun.change(writer, who, stored, changes, call)
    _announce(noun, writer, who, "UPDATE", changed)
    return noun.shown(writer, who, changed, call)


def _announce(noun: Noun, writer: Writer, who: Credential, action: str, stored: Stored) -> None:
    if noun.is_announced:
        also = noun.affected(writer, stored)
        announce(writer, who, action, noun.name, stored.doc, also=also)
