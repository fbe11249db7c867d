"""Flows: what is particular about them.

A find shows what lies in the own namespace and where others' Shares let the caller read, or on the
paths of a Token. System Flows (``/<account>/:inbox``) are left out like files whose names begin
with a dot, unless the filter names ``path``.

Source: protocol 1.5 (Flow), 1.13 (system Flows), 3.5 (routes), 3.6 (parameters), 3.4 (refusals),
8.2 (what a Token sees).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowkit.errors import BadRequest, FilterError
from flowkit.protocol.resources import RESOURCES
from flowkit.query.nodes import Within, Zip
from flowkit.query.params import Query
from flowkit.query.parse import parse
from flowkit.query.places import place_of
from flowkit.server.access import demand, is_readable
from flowkit.server.auth import Credential
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.verbs import Looked, Noun, Show
from flowkit.server.listing import members_of
from flowkit.server.plan import plan_find
from flowkit.server.store.base import Reader, StoredFlow, Writer

__all__ = ["FLOW", "check_places"]


def _seen(reader: Reader, who: Credential, ids: Sequence[str]) -> dict[str, StoredFlow]:
    return {key: flow for key, flow in reader.flows(ids).items() if is_readable(flow, who)}


def _look(call: Call, query: Query, reader: Reader, who: Credential, show: Show) -> Looked:
    """The flows below every path that the caller may read; system Flows only if asked for."""
    plan = plan_find(
        "flow",
        query,
        now_ms=call.now_ms,
        under=who.readable,
        hides_system=all(path[0] != "path" for path in members_of(query.filter)),
        places=call.places,
    )
    return Looked(reader.find(plan, show).objects, plan.describe())


def check_places(call: Call, checked: Checked) -> None:
    """Refuse a ``filter`` with a postal code that cannot be looked up: it would refuse every drop.

    Raises:
        BadRequest: it has one.
    """
    for rule in parse(checked.members.get("filter") or "").walk():
        if isinstance(rule, Within) and isinstance(rule.place, Zip):
            try:
                place_of(call.places, rule.place.code)
            except FilterError as error:
                raise BadRequest(error.problem) from None


def _create(writer: Writer, who: Credential, _call: Call, checked: Checked) -> StoredFlow:
    demand(who, "write", checked.members["path"])
    return writer.create_flow(checked.members, creator=who.account.identity_id)


def _demand_change(_reader: Reader, who: Credential, flow: StoredFlow) -> None:
    demand(who, "write", flow.path, public=bool(flow.doc.get("public")))


def _change(
    writer: Writer, who: Credential, flow: StoredFlow, changes: Mapping[str, Any], _call: Call
) -> StoredFlow:
    return writer.update_flow(flow, changes, editor=who.account.identity_id)


FLOW = Noun(
    resource=RESOURCES["flow"],
    seen=_seen,
    look=_look,
    shown=lambda _reader, _who, flow, _call: flow.doc,
    check=check_places,
    create=_create,
    demand_change=_demand_change,
    change=_change,
    remove=lambda writer, _who, flow: writer.delete_flow(flow),
)
"""The noun of Flows."""
