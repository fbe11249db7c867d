"""The path of a drop, top to bottom.

Everything that writes a drop comes through here: one create, an array, a member update; later
tracks, tasks and sockets. The steps are plain functions in one list, run inside one job of the
store::

    check       the body against the table of members (before the job: it needs no store)
    locate      the flow that it is for
    authorise   whether this credential may write there
    settle      an update only: what changes, and that nothing immutable does
    admit       the flow's own filter
    store       the row, with its number
    count       what the statistics say of it (a new drop only)
    route       it waits for the Tracks of its flow, in the same commit (a new drop only)

What follows a commit (publish) joins the list behind ``route``.

Source: protocol 6.1 (life of a drop), 10 (statistics), 1.4 (drops, ``fhash``), 1.5 (a flow's
filter), 12 (array create), 3.4 (refusals).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, NotFound, UsageError
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import RESOURCES
from flowkit.query.match import predicate
from flowkit.query.parse import parse
from flowkit.server.access import demand, flow_with_id
from flowkit.server.auth import Credential
from flowkit.server.checking import Checked, check_create, check_update, settle
from flowkit.server.store.base import StoredDrop, StoredFlow, Writer, Written

__all__ = [
    "REFUSED_BY_FILTER",
    "Arrival",
    "RefusedByFilter",
    "admit",
    "check_change",
    "check_drop",
    "create",
    "update",
]

_log = logging.getLogger(__name__)

REFUSED_BY_FILTER = "The Drop does not satisfy the Flow's filter"
"""What a direct writer is told when the flow's own filter refuses its drop (1.5)."""

_DROP = RESOURCES["drop"]


@dataclass(slots=True)
class Arrival:
    """One drop on its way in.

    Attributes:
        checked: its body.
        now_ms: the time of the request.
        places: the table of postal codes, for filters with ``ZIP=``.
        flow_id: the flow in the address, if there is one; it wins over the body.
        drop_id: the drop that is updated, None for a create.
        flow: the flow, once located.
        old: the drop as it was, for an update.
        changes: what an update changes.
        written: what the store did.
        hops: Tracks that the drop has come through (6.5).
        admitted: whether everything but writing has been done.
    """

    checked: Checked
    now_ms: int
    places: Any = None
    flow_id: str | None = None
    drop_id: str | None = None
    flow: StoredFlow | None = None
    old: StoredDrop | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    written: Written | None = None
    hops: int = 0
    admitted: bool = False


class RefusedByFilter(BadRequest):
    """The flow's own filter does not let the drop in."""


Step = Callable[[Writer, Credential, Arrival], None]


def check_drop(body: Any, *, typed: bool, addressed: bool) -> Checked:
    """Check the body of a create.

    Args:
        body: the decoded body.
        typed: whether its elements may be typed.
        addressed: whether the address names the flow, so that the body need not.

    Raises:
        BadRequest: one sentence per fault.
    """
    faults: list[str] = []
    if not addressed and isinstance(body, dict) and not (body.get("path") or body.get("flowId")):
        faults.append("path: is required")
    try:
        checked = check_create(_DROP, body, typed=typed)
    except BadRequest as error:
        raise BadRequest(*faults, *error.errors) from None
    if faults:
        raise BadRequest(*faults)
    return checked


def check_change(body: Any, *, typed: bool) -> Checked:
    """Check the body of an update."""
    return check_update(_DROP, body, typed=typed)


def admit(writer: Writer, who: Credential, arrival: Arrival) -> None:
    """Do everything with a new drop that can refuse it, and write nothing.

    Whoever writes several drops, all or none, admits them all before the first ``create``.
    """
    for step in _ADMIT:
        step(writer, who, arrival)
    arrival.admitted = True


def create(writer: Writer, who: Credential, arrival: Arrival) -> Written:
    """Take a new drop all the way in; what refuses it raises and leaves no trace."""
    if not arrival.admitted:
        admit(writer, who, arrival)
    return _run(_WRITE, writer, who, arrival)


def update(writer: Writer, who: Credential, arrival: Arrival) -> Written:
    """Take the change of a drop all the way in."""
    return _run(_UPDATE, writer, who, arrival)


def _run(steps: Sequence[Step], writer: Writer, who: Credential, arrival: Arrival) -> Written:
    for step in steps:
        step(writer, who, arrival)
    if arrival.written is None:
        raise NotFound(NOT_LOCATED)
    return arrival.written


# The steps


def _locate(writer: Writer, who: Credential, arrival: Arrival) -> None:
    """Find the flow: by the id in the address, else by the body's id, else by its path."""
    if arrival.flow is not None:
        return
    members = arrival.checked.members
    flow_id = members.get("flowId") if arrival.flow_id is None else arrival.flow_id
    if flow_id is not None:
        arrival.flow = flow_with_id(writer, who, flow_id, "dropWrite")
        return
    demand(who, "dropWrite", members["path"])
    arrival.flow = writer.flow_at(members["path"])
    if arrival.flow is None:
        raise NotFound(NOT_LOCATED, f"path: there is no Flow at {members['path']}")


def _authorise(_writer: Writer, who: Credential, arrival: Arrival) -> None:
    """Whether the caller may write there; also for a flow that was located by somebody else."""
    flow = _located(arrival)
    demand(who, "dropWrite", flow.path, public=bool(flow.doc.get("public")))


def _name_flow(_writer: Writer, _who: Credential, arrival: Arrival) -> None:
    """Drop the body's own words about the flow; say so where they name another."""
    flow = _located(arrival)
    for name in ("flowId", "path"):
        said = arrival.checked.members.pop(name, None)
        if said is not None and said != flow.doc["id" if name == "flowId" else "path"]:
            arrival.checked.notes.append(f"{name}: names another Flow and was ignored")


def _settle(writer: Writer, _who: Credential, arrival: Arrival) -> None:
    """Find the drop that is changed, and what changes."""
    drop_id = str(arrival.drop_id)
    arrival.old = writer.drops(_located(arrival), [drop_id]).get(drop_id)
    if arrival.old is None:
        raise NotFound(NOT_LOCATED)
    arrival.changes = settle(_DROP, arrival.checked, arrival.old.doc)


def _admit(_writer: Writer, who: Credential, arrival: Arrival) -> None:
    """The flow's own filter decides about the drop with what the caller changes.

    What the server counts on (``version``, the date and author of an edit) is as before the write;
    a drop that replaces by ``fhash`` is judged as a new one.
    """
    flow = _located(arrival)
    text = flow.doc.get("filter")
    if not text:
        return
    if arrival.old is None:
        types = arrival.checked.types or {}
        doc = {
            "flowId": flow.id,
            "path": flow.path,
            "version": 0,
            "creationDate": arrival.now_ms,
            "creatorId": who.account.identity_id,
            **arrival.checked.members,
        }
    else:
        types = arrival.old.types if arrival.checked.types is None else arrival.checked.types
        merged = arrival.old.doc | arrival.changes
        doc = {name: value for name, value in merged.items() if value is not None}
    try:
        admitted = predicate(parse(text))(doc, arrival.now_ms, arrival.places, types)
    except UsageError as error:
        # a postal code that was known when the filter was written and is not any more
        raise BadRequest(f"The Flow's filter cannot be evaluated: {error}") from None
    if not admitted:
        raise RefusedByFilter(REFUSED_BY_FILTER)


def _store_new(writer: Writer, who: Credential, arrival: Arrival) -> None:
    """The row and its number."""
    arrival.written = writer.create_drop(
        _located(arrival),
        arrival.checked.members,
        arrival.checked.types or {},
        creator=who.account.identity_id,
    )


def _count(writer: Writer, who: Credential, arrival: Arrival) -> None:
    """A drop that replaces another by its ``fhash`` counts as added, too (1.4)."""
    writer.count("flowDropAdded", _located(arrival).id)
    writer.count("dropCreatedBy", who.account.identity_id)


def _route(writer: Writer, _who: Credential, arrival: Arrival) -> None:
    """The drop waits for the Tracks of its flow, unless it has come through too many (6.5)."""
    flow = _located(arrival)
    if arrival.written is None:
        return
    if arrival.hops < limits.track_hops_max:
        writer.route(flow, arrival.written.drop, hops=arrival.hops)
    elif writer.tracks_from(flow.path):
        _log.warning(
            "drop %s has come through %d Tracks and runs no further ones",
            arrival.written.drop.doc["id"],
            arrival.hops,
        )


def _store_change(writer: Writer, who: Credential, arrival: Arrival) -> None:
    """The new state, the end of the old one, and their number."""
    arrival.written = writer.update_drop(
        _located(arrival),
        str(arrival.drop_id),
        arrival.changes,
        arrival.checked.types,
        editor=who.account.identity_id,
    )


def _located(arrival: Arrival) -> StoredFlow:
    if arrival.flow is None:
        raise NotFound(NOT_LOCATED)
    return arrival.flow


_ADMIT: tuple[Step, ...] = (_locate, _authorise, _name_flow, _admit)
_WRITE: tuple[Step, ...] = (_store_new, _count, _route)
_UPDATE: tuple[Step, ...] = (_locate, _authorise, _settle, _admit, _store_change)
