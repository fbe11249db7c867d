"""The endpoints of Flows.

Source: protocol 1.5 (Flow), 3.5 (routes), 3.6 (parameters), 3.4 (refusals).
"""

from __future__ import annotations

from typing import Any

from flowkit.errors import BadRequest, FilterError
from flowkit.protocol.resources import RESOURCES
from flowkit.query.nodes import Within, Zip
from flowkit.query.parse import parse
from flowkit.query.places import place_of
from flowkit.server.access import demand, flow_with_id, is_readable
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import (
    Checked,
    check_create,
    check_ids,
    check_many,
    check_member,
    check_update,
    settle,
)
from flowkit.server.plan import plan_find
from flowkit.server.showing import only_members, references, referring
from flowkit.server.store.base import Reader, Writer

__all__ = [
    "create",
    "delete",
    "find",
    "read",
    "read_many",
    "update",
    "update_many",
    "update_member",
]

_FLOW = RESOURCES["flow"]


def find(call: Call) -> Work:
    """``GET /flow``: the flows of the account's own namespace."""
    query = call.query()

    def work(reader: Reader, who: Credential) -> Result:
        plan = plan_find(
            "flow",
            query,
            now_ms=call.now_ms,
            under=[f"/{who.account.name}"],
            places=call.places,
        )
        docs: list[dict[str, Any]] = []

        def show(doc: dict[str, Any]) -> dict[str, Any]:
            if query.refs:
                docs.append(referring(doc))
            return only_members(doc, query.only, "flow")

        result = Result(reader.find(plan, show).objects)
        if query.refs:
            result.references = references(reader, who, docs)
        if query.explain:
            result.head["plan"] = plan.describe()
        return result

    return work


def read(call: Call) -> Work:
    """``GET /flow/<id>``."""
    query = call.query()

    def work(reader: Reader, who: Credential) -> Result:
        doc = flow_with_id(reader, who, call.args["id"], "read").doc
        result = Result(only_members(doc, query.only, "flow"))
        if query.refs:
            result.references = references(reader, who, [doc])
        return result

    return work


def read_many(call: Call) -> Work:
    """``MGET /flow``: unknown and unreadable ids are left out."""
    query = call.query()
    ids = check_ids(call.body())

    def work(reader: Reader, who: Credential) -> Result:
        found = reader.flows(ids)
        docs = {key: flow.doc for key, flow in found.items() if is_readable(flow, who)}
        result = Result({key: only_members(doc, query.only, "flow") for key, doc in docs.items()})
        if query.refs:
            result.references = references(reader, who, docs.values())
        return result

    return work


def create(call: Call) -> Work:
    """``POST /flow``."""
    call.query()
    checked = _known_places(call, check_create(_FLOW, call.body()))
    call.note(checked.notes)

    def work(writer: Writer, who: Credential) -> Result:
        demand(who, "write", checked.members["path"])
        flow = writer.create_flow(checked.members, creator=who.account.identity_id)
        return Result(flow.doc, status=201)

    return work


def update(call: Call) -> Work:
    """``PUT /flow/<id>``."""
    call.query()
    checked = _known_places(call, check_update(_FLOW, call.body()))

    def work(writer: Writer, who: Credential) -> Result:
        return Result(_changed(call, writer, who, call.args["id"], checked))

    return work


def update_many(call: Call) -> Work:
    """``MPUT /flow``: all or nothing."""
    call.query()
    changes = check_many(call.body(), lambda body: _known_places(call, check_update(_FLOW, body)))

    def work(writer: Writer, who: Credential) -> Result:
        for flow_id in changes:
            flow_with_id(writer, who, flow_id, "write")
        return Result(
            {key: _changed(call, writer, who, key, each) for key, each in changes.items()}
        )

    return work


def update_member(call: Call) -> Work:
    """``PUT /flow/<id>/<member>``."""
    call.query()
    name = call.args["member"]
    checked = _known_places(call, check_update(_FLOW, check_member(_FLOW, name, call.body())))

    def work(writer: Writer, who: Credential) -> Result:
        doc = _changed(call, writer, who, call.args["id"], checked)
        return Result({name: doc[name]} if name in doc else {})

    return work


def delete(call: Call) -> Work:
    """``DELETE /flow/<id>``: the flow and everything that it held."""
    call.query()

    def work(writer: Writer, who: Credential) -> Result:
        writer.delete_flow(flow_with_id(writer, who, call.args["id"], "write"))
        return Result({})

    return work


def _known_places(call: Call, checked: Checked) -> Checked:
    """*checked*, whose filter names only postal codes that can be looked up.

    Raises:
        BadRequest: one cannot, so that the filter would refuse every drop.
    """
    for rule in parse(checked.members.get("filter") or "").walk():
        if isinstance(rule, Within) and isinstance(rule.place, Zip):
            try:
                place_of(call.places, rule.place.code)
            except FilterError as error:
                raise BadRequest(error.problem) from None
    return checked


def _changed(
    call: Call, writer: Writer, who: Credential, flow_id: str, checked: Checked
) -> dict[str, Any]:
    flow = flow_with_id(writer, who, flow_id, "write")
    changes = settle(_FLOW, checked, flow.doc)
    call.note(checked.notes)
    return writer.update_flow(flow, changes, editor=who.account.identity_id).doc
