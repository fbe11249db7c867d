"""The endpoints of Drops.

Arrays of entries are in ``arrays.py``.

Source: protocol 1.4 (Drop), 3.5 (routes), 3.6 (parameters); ``positions`` 2.7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import RESOURCES
from flowkit.query.params import Query
from flowkit.server import ingest
from flowkit.server.access import checked_path, flow_at, flow_with_id, is_readable
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import (
    Checked,
    check_ids,
    check_many,
    check_member,
    notes_for_unknown,
)
from flowkit.server.handlers.arrays import arrival_of, check_entry, create_many, take_in
from flowkit.server.plan import plan_find
from flowkit.server.showing import drop_told, references, referring, shown_drop
from flowkit.server.store.base import Reader, StoredDrop, StoredFlow, Writer, Written

__all__ = [
    "clear",
    "create",
    "delete",
    "find",
    "find_by_path",
    "find_in_flows",
    "read",
    "read_many",
    "update",
    "update_many",
    "update_member",
]

_DROP = RESOURCES["drop"]


# Reading


def find(call: Call) -> Work:
    """``GET /drop/<flowId>``: find in one flow."""
    query = call.query()

    def locate(reader: Reader, who: Credential) -> StoredFlow:
        return flow_with_id(reader, who, call.args["flow"], "dropRead")

    return _find_in(call, query, locate)


def find_by_path(call: Call) -> Work:
    """``GET /drop?path=…``: find in the flow at a path."""
    query = call.query()
    if query.path is None:
        raise BadRequest("path: is required, or the id of a Flow in the address")
    path = checked_path(query.path)

    def locate(reader: Reader, who: Credential) -> StoredFlow:
        return flow_at(reader, who, path, "dropRead")

    return _find_in(call, query, locate)


def _find_in(call: Call, query: Query, locate: Callable[[Reader, Credential], StoredFlow]) -> Work:
    def work(reader: Reader, who: Credential) -> Result:
        return _found(call, query, reader, who, locate(reader, who))

    return work


def _found(call: Call, query: Query, reader: Reader, who: Credential, flow: StoredFlow) -> Result:
    plan = plan_find("drop", query, now_ms=call.now_ms, flow=flow, places=call.places)
    typed = call.shows_types(query)
    docs: list[dict[str, Any]] = []

    def show(drop: StoredDrop) -> Any:
        if query.refs:
            docs.append(referring(drop.doc))
        return shown_drop(drop, typed=typed, only=query.only)

    found = reader.find(plan, show)
    result = Result(found.objects)
    if query.refs:
        result.references = references(reader, who, docs)
    if query.positions:
        result.head["position"] = found.position
    if query.explain:
        result.head["plan"] = plan.describe()
    return result


def find_in_flows(call: Call) -> Work:
    """``MGET /drop``: find in several flows; unknown and unreadable ones are left out.

    With several flows there are several positions and plans: ``head.positions`` and ``head.plans``
    are maps by flow id.
    """
    call.query()  # a bad parameter in the address is refused even if no entry comes to use it
    queries = _queries(call)

    def work(reader: Reader, who: Credential) -> Result:
        result = Result({})
        for key, query in queries.items():
            flow = reader.flow(key)
            if flow is None or not is_readable(flow, who, "dropRead"):
                continue
            one = _found(call, query, reader, who, flow)
            result.body[key] = one.body
            result.references.update(one.references)
            for name in one.head:
                result.head.setdefault(f"{name}s", {})[key] = one.head[name]
        return result

    return work


def _queries(call: Call) -> dict[str, Query]:
    """The entries of a find in several flows: flow id to query."""
    body = call.body()
    if not isinstance(body, list):
        raise BadRequest("body: must be an array of {flowId, params}")
    if len(body) > limits.find_flows_max:
        raise BadRequest(f"body: has {len(body)} entries, the limit is {limits.find_flows_max}")
    queries: dict[str, Query] = {}
    faults: list[str] = []
    for at, entry in enumerate(body):
        try:
            flow_id, query = _query(call, entry)
        except BadRequest as error:
            faults.extend(f"{at}.{sentence}" for sentence in error.errors)
            continue
        if flow_id in queries:
            faults.append(f"{at}.flowId: stands in this request twice")
        queries[flow_id] = query
    if faults:
        raise BadRequest(*faults[:100])
    return queries


def _query(call: Call, entry: Any) -> tuple[str, Query]:
    if not isinstance(entry, dict) or not isinstance(entry.get("flowId"), str):
        raise BadRequest("flowId: is required")
    params = entry.get("params") or {}
    if not isinstance(params, dict):
        raise BadRequest("params: must be an object")
    call.note(notes_for_unknown(sorted(set(entry) - {"flowId", "params"}), "a member here"))
    call.note(notes_for_unknown(sorted(set(params) - call.known), "a parameter here"))
    # what stands in the address holds for every entry that does not say otherwise
    named = {name: value for name, value in call.params.items() if name in call.known}
    named |= {name: value for name, value in params.items() if name in call.known}
    return entry["flowId"], Query.from_wire(named)


def read(call: Call) -> Work:
    """``GET /drop/<flowId>/<dropId>``."""
    query = call.query()

    def work(reader: Reader, who: Credential) -> Result:
        flow = flow_with_id(reader, who, call.args["flow"], "dropRead")
        drop = reader.drops(flow, [call.args["id"]]).get(call.args["id"])
        if drop is None:
            raise NotFound(NOT_LOCATED)
        return _shown(call, query, reader, who, drop, position=flow.position)

    return work


def read_many(call: Call) -> Work:
    """``MGET /drop/<flowId>``: unknown ids are left out."""
    query = call.query()
    ids = check_ids(call.body())

    def work(reader: Reader, who: Credential) -> Result:
        flow = flow_with_id(reader, who, call.args["flow"], "dropRead")
        drops = reader.drops(flow, ids)
        typed = call.shows_types(query)
        result = Result(
            {key: shown_drop(drop, typed=typed, only=query.only) for key, drop in drops.items()}
        )
        if query.refs:
            result.references = references(reader, who, [drop.doc for drop in drops.values()])
        if query.positions:
            result.head["position"] = flow.position
        return result

    return work


def _shown(
    call: Call,
    query: Query,
    reader: Reader,
    who: Credential,
    drop: StoredDrop,
    *,
    position: str,
    status: int = 200,
) -> Result:
    """The answer with one drop."""
    shown = shown_drop(drop, typed=call.shows_types(query), only=query.only)
    result = Result(shown, status=status)
    if query.refs:
        result.references = references(reader, who, [drop.doc])
    if query.positions:
        result.head["position"] = position
    return result


# Writing


def create(call: Call) -> Work:
    """``POST /drop`` and ``POST /drop/<flowId>``: one drop, or an array of them."""
    query = call.query()
    body = call.body(entries_apart=True)
    if isinstance(body, list):
        return create_many(call, query, body)
    if isinstance(body, dict) and "origin" in body:
        raise BadRequest("origin: stands in the entries of an array: send [{…}]")
    checked = check_entry(call, body)

    def work(writer: Writer, who: Credential) -> Result:
        written = take_in(call, writer, who, arrival_of(call, checked))
        status = 200 if written.kind == "replace" else 201
        position = written.position
        return _shown(call, query, writer, who, written.drop, position=position, status=status)

    return work


def update(call: Call) -> Work:
    """``PUT /drop/<flowId>/<dropId>``."""
    query = call.query()
    checked = ingest.check_change(call.body(), typed=call.typed)

    def work(writer: Writer, who: Credential) -> Result:
        written = _update(call, writer, who, call.args["id"], checked)
        return _shown(call, query, writer, who, written.drop, position=written.position)

    return work


def update_many(call: Call) -> Work:
    """``MPUT /drop/<flowId>``: all or nothing."""
    query = call.query()
    changes = check_many(call.body(), lambda body: ingest.check_change(body, typed=call.typed))
    typed = call.shows_types(query)

    def work(writer: Writer, who: Credential) -> Result:
        flow = flow_with_id(writer, who, call.args["flow"], "dropWrite")
        if len(writer.drops(flow, list(changes))) < len(changes):
            raise NotFound(NOT_LOCATED)
        written = {
            key: _update(call, writer, who, key, checked) for key, checked in changes.items()
        }
        result = Result(
            {
                key: shown_drop(each.drop, typed=typed, only=query.only)
                for key, each in written.items()
            }
        )
        if query.refs:
            drops = [each.drop for each in written.values()]
            result.references = references(writer, who, [drop.doc for drop in drops])
        if query.positions:
            last = list(written.values())[-1:]
            result.head["position"] = last[0].position if last else flow.position
        return result

    return work


def update_member(call: Call) -> Work:
    """``PUT /drop/<flowId>/<dropId>/<member>``."""
    query = call.query()
    name = call.args["member"]
    body = check_member(_DROP, name, call.body())
    checked = ingest.check_change(body, typed=call.typed)

    def work(writer: Writer, who: Credential) -> Result:
        written = _update(call, writer, who, call.args["id"], checked)
        shown = shown_drop(written.drop, typed=call.shows_types(query))
        result = Result({name: shown[name]} if name in shown else {})
        if query.positions:
            result.head["position"] = written.position
        return result

    return work


def _update(call: Call, writer: Writer, who: Credential, drop_id: str, checked: Checked) -> Written:
    arrival = ingest.Arrival(checked, call.now_ms, call.places, call.args["flow"], drop_id=drop_id)
    written = ingest.update(writer, who, arrival)
    call.note(checked.notes)
    return replace(written, drop=drop_told(written.drop, who, checked.members))


def delete(call: Call) -> Work:
    """``DELETE /drop/<flowId>/<dropId>``; ``forget=1`` forgets its last state at once."""
    query = call.query()
    forget = call.flag("forget")

    def work(writer: Writer, who: Credential) -> Result:
        flow = flow_with_id(writer, who, call.args["flow"], "dropWrite")
        written = writer.delete_drop(flow, call.args["id"], forget=forget)
        if written is None:
            raise NotFound(NOT_LOCATED)
        return Result({}, head={"position": written.position} if query.positions else {})

    return work


def clear(call: Call) -> Work:
    """``DELETE /drop/<flowId>``: every drop of the flow."""
    query = call.query()
    forget = call.flag("forget")

    def work(writer: Writer, who: Credential) -> Result:
        flow = flow_with_id(writer, who, call.args["flow"], "dropWrite")
        writer.clear(flow, forget=forget)
        after = writer.flow(flow.id)
        result = Result({})
        if query.positions and after is not None:
            result.head["position"] = after.position
        return result

    return work
