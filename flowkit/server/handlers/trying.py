"""``POST /track/simulate`` and ``POST /track/backtest``: a Track is tried, and nothing is written.

A simulation runs a definition on one Drop that comes with it. A backtest, which the protocol does
not have, runs a stored or proposed Track over the Drops that its source holds and answers what
would have been delivered, what a destination's filter would have refused, and what failed and why.
Scripts run after the job of the store has ended, so a slow one occupies none of its threads; what
they would fetch from elsewhere is not fetched.

Source: protocol 6.6 (simulation), 6.2 (results).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, NotFound
from flowkit.green import monotonic
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import RESOURCES, is_id
from flowkit.query.params import Query
from flowkit.server import ingest
from flowkit.server.access import flow_at
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import Checked, check_object, check_update, notes_for_unknown
from flowkit.server.elements import show_typed
from flowkit.server.handlers.objects import demand_master
from flowkit.server.handlers.track import NOT_ENABLED, TRACK, check_definition, demand_rights
from flowkit.server.plan import plan_find
from flowkit.server.runs import Made, Ran, Writing, checked_output, make, passes
from flowkit.server.store.base import Delivery, Reader, StoredDrop, StoredObject
from flowkit.server.tracks import Output, TrackFault, destinations_of, is_path_map, outputs_of

__all__ = ["backtest", "simulate"]

_TRACK = RESOURCES["track"]
_DEFINITION = ("filter", "js", "source", "destination")


# Simulation


def simulate(call: Call) -> Work:
    """Run a definition on one Drop."""
    call.query()
    body = check_object(call.body())
    faults = [f"{name}: is required" for name in ("drop",) if name not in body]
    if not body.get("js") and not body.get("filter") and not body.get("destination"):
        faults.append("js: is required, or a filter or a destination")
    if faults:
        raise BadRequest(*faults)
    drop = ingest.check_drop(body["drop"], typed=call.typed, addressed=True)
    definition = _definition(call, body, {"drop"})

    def work(_reader: Reader, who: Credential) -> Result:
        demand_master(who, "try a Track")
        track = _proposed(call, who, definition)
        doc = {"creationDate": call.now_ms, **drop.members}
        return Result(
            {}, later=lambda _read: _simulated(call, track, StoredDrop(doc, drop.types or {}))
        )

    return work


def _simulated(call: Call, track: StoredObject, drop: StoredDrop) -> Result:
    drops: list[dict[str, Any]] = []
    log: list[Any] = []
    errors: list[str] = []
    try:
        if passes(track, drop, now_ms=call.now_ms, places=call.places):
            if not track.doc.get("js"):
                drops = [_shown(call, drop.doc, drop.types)]
            else:
                ran = _run(call, track, drop)
                log.extend(ran.log)
                errors += [ran.error] if ran.error else []
                drops = _returned(call, ran.value, destinations_of(track.doc))
    except (TrackFault, BadRequest) as error:
        errors.append(str(error))
    return Result({"drops": drops, "log": log, "errors": errors})


def _returned(call: Call, value: Any, destinations: list[str]) -> list[dict[str, Any]]:
    """The Drops of a script's answer; those of a path map say their path."""
    says_paths = is_path_map(value)
    shown = []
    for output in outputs_of(value, destinations if says_paths else [""]):
        checked = ingest.check_drop(dict(output.body), typed=call.typed, addressed=True)
        doc = _shown(call, checked.members, checked.types or {})
        shown.append({"path": output.path, **doc} if says_paths else doc)
    return shown


def _shown(call: Call, doc: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """What a script can decide of a Drop, in the generation of the caller."""
    shown = {name: doc[name] for name in ("fhash", "location", "elems") if name in doc}
    return shown | {"elems": show_typed(doc["elems"], types)} if call.typed else shown


# Backtest


_Show = Callable[[Made, Output], dict[str, Any]]


@dataclass(slots=True)
class _Tally:
    """What a backtest has seen so far."""

    seen: int = 0
    passed: int = 0
    stopped: int = 0
    failed: int = 0
    delivered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    drops: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, made: Made, judged: Made, shown: _Show) -> None:
        """One drop: what the Track made of it, and what its destinations would have taken."""
        self.seen += 1
        source = made.delivery.drop.doc["id"]
        if judged.failure is not None:
            self.failed += 1
            if len(self.failures) < limits.backtest_shown_max:
                self.failures.append({"dropId": source, "error": judged.failure})
            return
        taken = judged.outputs or ()
        self.delivered.update(output.path for output in taken)
        self.refused.update(output.path for output in made.outputs or () if output not in taken)
        self.passed += bool(taken)
        self.stopped += not taken
        for output in taken[: limits.backtest_shown_max - len(self.drops)]:
            self.drops.append({"dropId": source, "path": output.path, **shown(made, output)})

    def result(self, *, complete: bool) -> Result:
        """The answer."""
        return Result(
            {
                "seen": self.seen,
                "passed": self.passed,
                "stopped": self.stopped,
                "failed": self.failed,
                "delivered": dict(self.delivered),
                "refused": dict(self.refused),
                "drops": self.drops,
                "failures": self.failures,
                "complete": complete,
            }
        )


def backtest(call: Call) -> Work:
    """Run a Track over the newest Drops that its source holds, oldest of them first."""
    call.query()
    body = check_object(call.body())
    track_id = body.get("track")
    if track_id is not None and not (is_id(track_id) and str(track_id)[0] == _TRACK.prefix):
        raise BadRequest("track: must be the id of a Track")
    count = body.get("limit", limits.flow_capacity_default)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise BadRequest("limit: must be a whole number, 0 or more")
    if count > limits.backtest_drops_max:
        raise BadRequest(f"limit: must be at most {limits.backtest_drops_max}")
    definition = None if track_id else _definition(call, body, {"track", "limit"})
    if definition is not None and "source" not in definition.members:
        raise BadRequest("source: is required, or the id of a stored Track in track")

    def work(reader: Reader, who: Credential) -> Result:
        demand_master(who, "try a Track")
        track = _proposed(call, who, definition) if definition else _stored(reader, who, body)
        demand_rights(reader, who, track.doc)
        flow = flow_at(reader, who, track.doc["source"], "dropRead")
        query = Query.from_wire({"limit": count})
        plan = plan_find("drop", query, now_ms=call.now_ms, flow=flow, places=call.places)
        drops: list[StoredDrop] = reader.find(plan).objects[::-1]
        return Result({}, later=lambda read: _backtested(call, who, track, drops, read))

    return work


def _backtested(
    call: Call,
    who: Credential,
    track: StoredObject,
    drops: list[StoredDrop],
    read: Callable[[Callable[[Any], Any]], Any],
) -> Result:
    """Ask the Track about every drop, then its destinations, in slices."""
    tally = _Tally()
    until = monotonic() + limits.backtest_time_s
    made: list[Made] = []

    def judge(reader: Reader) -> list[Made]:
        writing = Writing(reader, who, call.now_ms, call.places)
        return [writing.admitted(one)[0] for one in made]

    def shown(one: Made, output: Output) -> dict[str, Any]:
        checked = checked_output(one, output)
        return _shown(call, checked.members, checked.types or {})

    for number, drop in enumerate(drops, start=1):
        made.append(
            make(
                track,
                Delivery(number, drop, 0),
                now_ms=call.now_ms,
                places=call.places,
                run_script=lambda track, drop: _run(call, track, drop),
            )
        )
        is_late = monotonic() > until
        if is_late or number == len(drops) or len(made) == limits.track_batch_deliveries_max:
            for one, judged in zip(made, read(judge), strict=True):
                tally.add(one, judged, shown)
            made = []
        if is_late:
            break
    return tally.result(complete=tally.seen == len(drops))


# Both


def _definition(call: Call, body: Mapping[str, Any], others: set[str]) -> Checked:
    """The definition of a Track in a body, checked."""
    known = {name: body[name] for name in _DEFINITION if body.get(name) is not None}
    call.note(notes_for_unknown(sorted(set(body) - others - set(_DEFINITION)), "a member here"))
    checked = check_update(_TRACK, known)
    check_definition(call, checked)
    call.note(checked.notes)
    return checked


def _proposed(call: Call, who: Credential, definition: Checked) -> StoredObject:
    """A Track that is not stored, of the caller's."""
    doc = {"creatorId": who.account.identity_id, **definition.members}
    return StoredObject("track", who.account.name, doc, {"typed": call.typed})


def _stored(reader: Reader, who: Credential, body: Mapping[str, Any]) -> StoredObject:
    """A stored Track as the caller's own: whoever made it does not lend its rights to a try."""
    track: StoredObject | None = TRACK.seen(reader, who, [body["track"]]).get(body["track"])
    if track is None:
        raise NotFound(NOT_LOCATED)
    return replace(track, account=who.account.name)


def _run(call: Call, track: StoredObject, drop: StoredDrop) -> Ran:
    if call.scripts is None or not call.scripts.is_available:
        return Ran(error=NOT_ENABLED.partition(": ")[2])
    ran: Ran = call.scripts.try_out(track, drop)
    return ran
