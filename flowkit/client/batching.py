"""What a wave of reads is sent as, and how its answers are dealt out.

Reads that are pending together become as few requests as the protocol allows: reads of one kind by
id one ``MGET``, finds in several flows one ``MGET /drop``, all that remains one ``POST /batch``. An
answer that a combined request cannot give exactly as the plain call would (it was refused as a
whole, or cut for its size) is asked for again, by itself.

Rules: nothing here sends, waits or knows a thread.

Source: protocol 3.5 (MGET, batch), 3.6 (parameters, size of an answer).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowkit import limits
from flowkit.client.calls import NOTHING, Call
from flowkit.errors import NotFound, PlatformError, ProtocolError
from flowkit.protocol.envelope import NOT_LOCATED, TOO_LARGE, Answer, read_envelope
from flowkit.protocol.resources import BY_ROUTE

__all__ = ["Ask", "Batch", "Entry", "Outcome", "batches", "can_be_combined", "entries_of"]

Outcome = Answer | PlatformError

_OF_ONE_ENTRY = (400, 413)

_OWN_HEADS = frozenset({"refs", "positions", "explain"})
"""Parameters whose answer stands in the head: that of an MGET is not that of one read."""


@dataclass(eq=False, slots=True)
class Ask:
    """One read that waits for its wave.

    Attributes:
        call: what it asks for.
        params: its query parameters as they stand in a URL, the API's own included.
        told: the call in words, for pictures.
        place: its whole address, for errors.
        outcome: what came of it.
    """

    call: Call
    params: Mapping[str, str]
    told: str = ""
    place: tuple[str, ...] = ()
    outcome: Outcome | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for equal requests."""
        body = "" if self.call.body is NOTHING else repr(self.call.body)
        return self.call.method, self.call.segments, tuple(sorted(self.params.items())), body

    @property
    def path(self) -> str:
        """Its address below the account."""
        return "/" + "/".join(self.call.segments)


_NOT_IN_PARTS = frozenset("/%?")


def can_be_combined(call: Call) -> bool:
    """Whether a call may stand in a ``POST /batch``: a plain read at an address of the account."""
    if call.method not in ("GET", "MGET") or call.is_bare or not call.segments:
        return False
    # There the address is cut at its slashes and not decoded.
    return _NOT_IN_PARTS.isdisjoint("".join(call.segments))


@dataclass(eq=False, slots=True)
class Entry:
    """One request that answers one or more asks.

    Attributes:
        method, path, params, body: as in the entry of a batch.
        asks: those that it answers, equal ones together, by what names their part of the answer;
            under "" if the whole answer is theirs.
        is_alone: whether it must not share a request: together they were too large.
    """

    method: str
    path: str
    params: Mapping[str, str]
    body: Any = NOTHING
    asks: dict[str, list[Ask]] = field(default_factory=dict)
    is_alone: bool = False

    @property
    def is_combined(self) -> bool:
        """Whether its answer has a part for each of several different asks."""
        return "" not in self.asks

    def wire(self) -> dict[str, Any]:
        """It as an entry of ``POST /batch``."""
        said: dict[str, Any] = {"method": self.method, "path": self.path}
        if self.params:
            said["params"] = dict(self.params)
        if self.body is not NOTHING:
            said["body"] = self.body
        return said

    def settle(self, outcome: Outcome) -> list[Entry]:
        """Give the asks their answers.

        Returns:
            what must be asked for again: the parts of a combined request that was refused.
        """
        if not self.is_combined:
            for number, ask in enumerate(self.asks[""]):
                ask.outcome = outcome if number == 0 else _copied(outcome)
            return []
        if isinstance(outcome, PlatformError):
            if outcome.status in _OF_ONE_ENTRY:  # perhaps for one of them only
                return [_single(asks) for asks in self.asks.values()]
            for asks in self.asks.values():
                for ask in asks:
                    ask.outcome = outcome
            return []
        if not isinstance(outcome.body, Mapping):
            raise ProtocolError(f"the answer to MGET {self.path} is not a map by id")
        head = {**outcome.head, "references": {}}
        for name, asks in self.asks.items():
            for number, ask in enumerate(asks):
                if name not in outcome.body:
                    ask.outcome = NotFound(NOT_LOCATED, status=404)
                    continue
                body = outcome.body[name]
                body = body if number == 0 else copy.deepcopy(body)
                ask.outcome = Answer(outcome.status, body, dict(head))
        return []


def _copied(outcome: Outcome) -> Outcome:
    return copy.deepcopy(outcome) if isinstance(outcome, Answer) else copy.copy(outcome)


def _single(asks: list[Ask]) -> Entry:
    one = asks[0]
    return Entry(one.call.method, one.path, one.params, one.call.body, {"": asks})


def entries_of(asks: Iterable[Ask]) -> list[Entry]:
    """The requests that answer *asks*, in the order of their first ask."""
    equal: dict[Any, list[Ask]] = {}
    for ask in asks:
        equal.setdefault(ask.key, []).append(ask)
    groups: dict[Any, list[list[Ask]]] = {}
    for key, same in equal.items():
        groups.setdefault(_group(same[0]) or key, []).append(same)
    return [entry for group, kinds in groups.items() for entry in _entries(group, kinds)]


def _group(ask: Ask) -> tuple[Any, ...] | None:
    """What asks have in common that one MGET can answer; None for one that stands alone."""
    segments, params = ask.call.segments, ask.params
    if ask.call.method != "GET" or not _OWN_HEADS.isdisjoint(params):
        return None
    is_drop = segments[0] == "drop"
    if is_drop and len(segments) == 2:
        return ("finds",)
    if len(segments) != (3 if is_drop else 2) or segments[0] not in BY_ROUTE:
        return None
    return segments[:-1], tuple(sorted(params.items()))


def _entries(group: tuple[Any, ...], kinds: list[list[Ask]]) -> Iterator[Entry]:
    """The requests for the asks of one group."""
    if len(kinds) == 1:
        yield _single(kinds[0])
    elif group == ("finds",):
        yield from _finds(kinds)
    else:
        for some in _chunks(kinds, limits.wave_ids_max):
            one = some[0][0]
            path = "/" + "/".join(one.call.segments[:-1])
            by_id = {asks[0].call.segments[-1]: asks for asks in some}
            yield Entry("MGET", path, one.params, list(by_id), by_id)


def _finds(kinds: list[list[Ask]]) -> Iterator[Entry]:
    """Finds in flows; an answer has room for one find of each flow."""
    rounds: list[dict[str, list[Ask]]] = []
    seen: dict[str, int] = {}
    for asks in kinds:
        flow_id = asks[0].call.segments[1]
        at = seen[flow_id] = seen.get(flow_id, -1) + 1
        if at == len(rounds):
            rounds.append({})
        rounds[at][flow_id] = asks
    for by_flow in rounds:
        for some in _chunks(list(by_flow.items()), limits.wave_finds_max):
            if len(some) == 1:
                yield _single(some[0][1])
                continue
            body = [{"flowId": name, "params": dict(asks[0].params)} for name, asks in some]
            yield Entry("MGET", "/drop", {}, body, dict(some))


def _chunks(things: Sequence[Any], most: int) -> Iterator[Any]:
    for at in range(0, len(things), most):
        yield things[at : at + most]


@dataclass(eq=False, slots=True)
class Batch:
    """What goes over the wire as one request.

    Attributes:
        entries: one, which is sent as it is, or several in a ``POST /batch``.
    """

    entries: list[Entry]

    def call(self, timeout_s: float | None) -> Call:
        """The request."""
        if self.is_joined:
            body = [entry.wire() for entry in self.entries]
            return Call(
                "POST", ("batch",), {}, body, is_read=True, timeout_s=timeout_s, is_ours=True
            )
        entry = self.entries[0]
        asks = entry.asks.get("")
        if asks:
            return asks[0].call
        segments = tuple(entry.path[1:].split("/"))
        return Call("MGET", segments, entry.params, entry.body, timeout_s=timeout_s, is_ours=True)

    @property
    def is_joined(self) -> bool:
        """Whether it is a ``POST /batch``."""
        return len(self.entries) > 1

    def asks(self) -> Iterator[Ask]:
        """All that it answers."""
        for entry in self.entries:
            for asks in entry.asks.values():
                yield from asks

    @property
    def size(self) -> int:
        """How many asks it answers."""
        return sum(1 for _ in self.asks())

    def settle(self, outcome: Outcome) -> list[Entry]:
        """Give every ask its answer.

        Returns:
            what must be asked for again.

        Raises:
            ProtocolError: the answer is not what was asked for.
        """
        if not self.is_joined:
            return self.entries[0].settle(outcome)
        if isinstance(outcome, PlatformError):
            if outcome.status in _OF_THE_BATCH:
                for entry in self.entries:
                    entry.is_alone = True
                return self.entries
            for ask in self.asks():
                ask.outcome = outcome
            return []
        if not isinstance(outcome.body, list) or len(outcome.body) != len(self.entries):
            raise ProtocolError("the answer to POST /batch has not one envelope for each entry")
        again: list[Entry] = []
        for entry, envelope in zip(self.entries, outcome.body, strict=True):
            one = _opened(envelope)
            if not entry.is_combined and _is_too_large(one):
                entry.is_alone = True
                again.append(entry)
            else:
                again += entry.settle(one)
        return again


_OF_THE_BATCH = (400, 404, 405, 413)
"""What a server says to a ``POST /batch`` that it does not know, or finds too large: what is wrong
with an entry would stand in the envelope of that entry."""


def _opened(envelope: Any) -> Outcome:
    try:
        return read_envelope(int(envelope["head"]["status"]), envelope)
    except PlatformError as error:
        return error
    except (ValueError, TypeError, LookupError) as error:
        raise ProtocolError("an entry of the answer to POST /batch is not an envelope") from error


def _is_too_large(outcome: Outcome) -> bool:
    """Whether an answer was refused for the size of the batch, not for its own."""
    return isinstance(outcome, PlatformError) and any(
        sentence.startswith(TOO_LARGE) for sentence in outcome.errors
    )


def _weight(entry: Entry) -> int:
    """About as many bytes as it is sent with."""
    text = repr(entry.wire())
    return len(text) if text.isascii() else 6 * len(text)


def batches(entries: Sequence[Entry], *, together: bool = True) -> Iterator[Batch]:
    """*entries* in as few requests as the bounds allow; one each if not *together*."""
    some: list[Entry] = []
    size = 0
    for entry in entries:
        if entry.is_alone or not together:
            yield Batch([entry])
            continue
        weight = _weight(entry)
        is_full = len(some) == limits.batch_requests_max or size + weight > limits.wave_bytes_max
        if some and is_full:
            yield Batch(some)
            some, size = [], 0
        some.append(entry)
        size += weight
    if some:
        yield Batch(some)
