"""Array create: many entries in one request and one commit, each with an answer of its own.

Entries without an ``origin`` are drops that stand alone. Entries with one belong to lines of a
sender, and the rules of ``server/marks.py`` decide what is done: what was stored before is not
stored again, and nothing is stored behind a hole. The marks are written in the commit of what they
speak of, and stand in the answer: a sender deletes what it kept on nothing else.

Source: protocol 12 (array create), ``positions`` 9 (exactly-once effect).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Conflict, PlatformError
from flowkit.query.params import Query
from flowkit.server import ingest
from flowkit.server.access import flow_with_id
from flowkit.server.auth import Credential
from flowkit.server.call import Ahead, Call, Result, Work
from flowkit.server.checking import Checked
from flowkit.server.handlers.entries import EntryKind, Sent
from flowkit.server.handlers.message import MESSAGES
from flowkit.server.handlers.properties import REPORTED
from flowkit.server.marks import Line, Origin, read_origin
from flowkit.server.showing import references, shown_drop
from flowkit.server.store.base import StoredFlow, Writer, Written

__all__ = ["KINDS", "arrival_of", "check_entry", "create_many", "take_in"]

KINDS: Mapping[str, EntryKind] = {kind.member: kind for kind in (MESSAGES, REPORTED)}
"""Member to the kind of entry that it tells; an entry with none of them is a drop."""


def check_entry(call: Call, body: Any) -> Checked:
    """The body of a drop, checked; its notes are told with the answer."""
    checked = ingest.check_drop(body, typed=call.typed, addressed="flow" in call.args)
    call.note(checked.notes)
    return checked


def arrival_of(call: Call, checked: Checked, flow: StoredFlow | None = None) -> ingest.Arrival:
    """A drop on its way in; *flow* if it was located already."""
    return ingest.Arrival(checked, call.now_ms, call.places, call.args.get("flow"), flow=flow)


def take_in(call: Call, writer: Writer, who: Credential, arrival: ingest.Arrival) -> Written:
    """Store a drop; its notes are told with the answer."""
    written = ingest.create(writer, who, arrival)
    call.note(arrival.checked.notes)
    return written


def create_many(call: Call, query: Query, bodies: list[Any]) -> Work:
    """One commit for all; each entry on its own: 201 if all were stored, 207 otherwise."""
    most = limits.array_create_entries_max
    if len(bodies) > most:
        raise BadRequest(f"body: has {len(bodies)} entries, the limit is {most}", status=413)
    entries = [_entry(call, body) for body in bodies]
    shared: dict[str, Any] = {}
    call.ahead.extend(_ahead(entries, shared))

    def work(writer: Writer, who: Credential) -> Result:
        flow = None
        if "flow" in call.args:
            flow = flow_with_id(writer, who, call.args["flow"], "dropWrite")
        return _Creating(call, query, writer, who, flow=flow, shared=dict(shared)).result(entries)

    return work


@dataclass(slots=True)
class _Entry:
    """One entry, as far as it can be understood without the store.

    Attributes:
        origin: where it stands in its line; None if it stands alone.
        kind: what it is if it is no drop.
        checked: what its kind made of it, None for a skip.
        error: why it cannot be stored.
    """

    origin: Origin | None = None
    kind: EntryKind | None = None
    checked: Any = None
    error: PlatformError | None = None


def _entry(call: Call, body: Any) -> _Entry:
    entry = _Entry()
    try:
        if isinstance(body, BadRequest):
            raise body
        if isinstance(body, dict) and "origin" in body:
            entry.origin = read_origin(body["origin"])
            _understand(call, entry, {key: body[key] for key in body if key != "origin"})
        else:
            entry.checked = check_entry(call, body)
    except PlatformError as error:
        entry.error = error
    return entry


def _understand(call: Call, entry: _Entry, body: dict[str, Any]) -> None:
    """What an entry with an origin is."""
    if entry.origin is not None and entry.origin.skip is not None:
        if body:
            raise BadRequest(f"{min(body)}: nothing stands beside the origin of a skip")
        return
    kinds = [KINDS[name] for name in KINDS if name in body]
    if not kinds:
        entry.checked = check_entry(call, body)
    elif len(kinds) > 1 or "elems" in body:
        raise BadRequest(f"{kinds[0].member}: stands beside what is another kind of entry")
    else:
        entry.kind = kinds[0]
        entry.checked = kinds[0].check(call, body)


def _ahead(entries: list[_Entry], shared: dict[str, Any]) -> Iterator[Ahead]:
    """What readers do for the large ones among *entries*; what they find is in *shared* then."""
    for kind in KINDS.values():
        there = [each for each in entries if each.kind is kind and each.error is None]
        if kind.ahead is not None and any(kind.is_large(each.checked) for each in there):
            sent = [(each.origin, each.checked) for each in there if each.origin is not None]
            yield partial(kind.ahead, sent=sent, shared=shared)


class _Creating:
    """The work of one request, in its job of the store."""

    def __init__(
        self,
        call: Call,
        query: Query,
        writer: Writer,
        who: Credential,
        *,
        flow: StoredFlow | None,
        shared: dict[str, Any],
    ) -> None:
        self._call, self._query = call, query
        self._writer, self._who = writer, who
        self._flow = flow
        self._typed = call.shows_types(query)
        self._located: dict[Any, StoredFlow | None] = {}  # each flow is looked up once
        self._docs: list[dict[str, Any]] = []
        self._positions: dict[str, str] = {}
        self._lines: dict[tuple[str, str], Line] = {}
        self._lines_left: int | None = None
        self._shared = shared
        self._all_stored = True

    def result(self, entries: list[_Entry]) -> Result:
        """Do all entries, in their order; the answer."""
        self._open_lines(entries)
        answers = [self._answer(entry) for entry in entries]
        for kind in KINDS.values():
            if kind.finish is not None:
                kind.finish(self._shared)
        self._keep_marks()
        result = Result(answers, status=201 if self._all_stored else 207)
        if self._query.refs:
            result.references = references(self._writer, self._who, self._docs)
        if self._lines:
            result.head["marks"] = [_mark_told(*place, line) for place, line in self._lines.items()]
        self._put_positions(result)
        return result

    def _open_lines(self, entries: list[_Entry]) -> None:
        """Read the mark of each line once."""
        origins: dict[tuple[str, str], list[Origin]] = {}
        for entry in entries:
            if entry.origin is not None:
                origins.setdefault(entry.origin.line, []).append(entry.origin)
        marks, scope = self._writer.marks, self._who.scope
        for place, there in origins.items():
            self._lines[place] = Line(marks.of(scope, *place), there)

    def _answer(self, entry: _Entry) -> Any:
        line = self._lines[entry.origin.line] if entry.origin is not None else None
        try:
            if line is None or entry.origin is None:
                return self._stored(entry)
            return self._in_line(entry, entry.origin, line)
        except PlatformError as error:
            if error.status >= 500:
                raise
            if line is not None:
                line.stop()
            self._all_stored = False
            return {"status": error.status, "errors": list(error.errors)}

    def _in_line(self, entry: _Entry, origin: Origin, line: Line) -> Any:
        if not line.judge(origin):
            self._all_stored = False
            self._drop_upload(origin)
            return {"status": 200, "duplicate": True}
        is_new = line.is_new
        if is_new:
            self._refuse_too_many()
        if origin.skip is not None and entry.error is None:
            self._all_stored = False
            answer: Any = {"status": 200, "skipped": line.settle(origin, self._call.now_ms)}
            self._drop_upload(origin)
        else:
            answer = self._stored(entry)
            line.settle(origin, self._call.now_ms)
        if is_new and self._lines_left is not None:
            self._lines_left -= 1
        return answer

    def _drop_upload(self, origin: Origin) -> None:
        """What was uploaded for an entry that is settled; nothing else will claim it."""
        self._writer.pieces.drop_upload(self._who.scope, origin.box, origin.message)

    def _refuse_too_many(self) -> None:
        """Refuse a line beyond the bound; what is refused stays with its sender."""
        if self._lines_left is None:
            there = self._writer.marks.lines(self._who.scope)
            self._lines_left = limits.origin_lines_max - there
        if self._lines_left <= 0:
            whose = (
                "this device" if self._who.device_id else f"the account {self._who.account.name}"
            )
            raise Conflict(
                f"origin: {whose} has {limits.origin_lines_max} lines (streams of outboxes)"
                " already, and no further one is taken"
            )

    def _stored(self, entry: _Entry) -> Any:
        if entry.error is not None:
            raise entry.error
        if entry.kind is not None and entry.origin is not None:
            sent = Sent(self._call, entry.origin, entry.checked, self._shared)
            answer = entry.kind.store(self._writer, self._who, sent)
            self._all_stored &= answer.get("status") != 200
            return answer
        return self._drop(entry.checked)

    def _drop(self, checked: Checked) -> Any:
        place = checked.members.get("flowId") or checked.members.get("path")
        arrival = arrival_of(self._call, checked, self._flow or self._located.get(place))
        written = take_in(self._call, self._writer, self._who, arrival)
        self._located[place] = arrival.flow
        doc = written.drop.doc
        self._docs.append(doc)
        self._positions[doc["flowId"]] = written.position
        return shown_drop(written.drop, typed=self._typed, only=self._query.only)

    def _keep_marks(self) -> None:
        """Write each mark that moved once, and count what the rules did."""
        counted = dict.fromkeys(("duplicate", "skipped", "refused"), 0)
        for place, line in self._lines.items():
            if line.has_moved:
                self._writer.marks.settle(self._who.scope, place, line.mark, line.skips)
            counted["duplicate"] += line.duplicates
            counted["skipped"] += line.mark.skipped - line.before.skipped
            counted["refused"] += line.refusals
        for outcome, times in counted.items():
            if times and self._call.metrics is not None:
                self._call.metrics.count("flowkit_origin_entries_total", outcome, times=times)

    def _put_positions(self, result: Result) -> None:
        """``head.position`` where the address names the flow, ``head.positions`` otherwise."""
        if not self._query.positions:
            return
        if self._flow is None:
            result.head["positions"] = self._positions
        else:
            result.head["position"] = self._positions.get(self._flow.id, self._flow.position)


def _mark_told(box: str, stream: str, line: Line) -> dict[str, Any]:
    told: dict[str, Any] = {"box": box, "stream": stream, "sequence": line.mark.sequence}
    return told | ({"message": line.mark.message} if line.mark.message is not None else {})
