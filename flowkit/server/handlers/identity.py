"""The endpoints of Identities.

An account finds itself; others it may look up by id, and sees of them ``id``, ``name`` and
``icon``. The master token is kept only as a digest, so ``masterToken`` never stands in an answer.

Source: protocol 1.8 (Identity), 3.5 (routes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit.errors import Forbidden, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import RESOURCES
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import (
    Checked,
    check_ids,
    check_many,
    check_member,
    check_update,
    settle,
)
from flowkit.server.plan import plan_find
from flowkit.server.showing import only_members, references, shown_identity
from flowkit.server.store.base import Reader, Writer

__all__ = ["find", "read", "read_many", "refuse", "update", "update_many", "update_member"]

_IDENTITY = RESOURCES["identity"]


def find(call: Call) -> Work:
    """``GET /identity``: the caller's own, as an array of at most one."""
    query = call.query()

    def work(reader: Reader, who: Credential) -> Result:
        under = [who.account.identity_id]
        plan = plan_find("identity", query, now_ms=call.now_ms, under=under, places=call.places)
        docs = reader.find(plan).objects
        result = Result([only_members(doc, query.only, "identity") for doc in docs])
        if query.refs:
            result.references = references(reader, who, docs)
        if query.explain:
            result.head["plan"] = plan.describe()
        return result

    return work


def read(call: Call) -> Work:
    """``GET /identity/<id>``."""
    query = call.query()

    def work(reader: Reader, who: Credential) -> Result:
        doc = _seen(reader, who, call.args["id"])
        result = Result(only_members(doc, query.only, "identity"))
        if query.refs:
            result.references = references(reader, who, [doc])
        return result

    return work


def read_many(call: Call) -> Work:
    """``MGET /identity``: unknown ids are left out."""
    query = call.query()
    ids = check_ids(call.body())

    def work(reader: Reader, who: Credential) -> Result:
        found = {key: reader.identity(key) for key in ids}
        docs = {key: shown_identity(doc, who) for key, doc in found.items() if doc is not None}
        result = Result(
            {key: only_members(doc, query.only, "identity") for key, doc in docs.items()}
        )
        if query.refs:
            result.references = references(reader, who, docs.values())
        return result

    return work


def update(call: Call) -> Work:
    """``PUT /identity/<id>``: the caller's own."""
    call.query()
    checked = check_update(_IDENTITY, call.body())

    def work(writer: Writer, who: Credential) -> Result:
        return Result(_changed(call, writer, who, call.args["id"], checked))

    return work


def update_many(call: Call) -> Work:
    """``MPUT /identity``: all or nothing."""
    call.query()
    changes = check_many(call.body(), lambda body: check_update(_IDENTITY, body))

    def work(writer: Writer, who: Credential) -> Result:
        for key in changes:
            _seen(writer, who, key)
        return Result(
            {key: _changed(call, writer, who, key, each) for key, each in changes.items()}
        )

    return work


def update_member(call: Call) -> Work:
    """``PUT /identity/<id>/<member>``."""
    call.query()
    name = call.args["member"]
    checked = check_update(_IDENTITY, check_member(_IDENTITY, name, call.body()))

    def work(writer: Writer, who: Credential) -> Result:
        doc = _changed(call, writer, who, call.args["id"], checked)
        return Result({name: doc[name]} if name in doc else {})

    return work


def refuse(call: Call) -> Work:
    """``POST /identity`` and ``DELETE /identity/<id>``: accounts are made by the server's owner."""
    call.query()

    def work(reader: Reader, who: Credential) -> Result:
        if "id" in call.args:
            _seen(reader, who, call.args["id"])
        raise Forbidden("Accounts are made and removed by the server's administrator only")

    return work


def _seen(reader: Reader, who: Credential, identity_id: str) -> dict[str, Any]:
    identity = reader.identity(identity_id)
    if identity is None:
        raise NotFound(NOT_LOCATED)
    return shown_identity(identity, who)


def _changed(
    call: Call, writer: Writer, who: Credential, identity_id: str, checked: Checked
) -> Mapping[str, Any]:
    doc = _seen(writer, who, identity_id)
    if identity_id != who.account.identity_id:
        raise Forbidden("The identity belongs to another account")
    changes = settle(_IDENTITY, checked, doc)
    call.note(checked.notes)
    return writer.update_identity(identity_id, changes, editor=identity_id)
