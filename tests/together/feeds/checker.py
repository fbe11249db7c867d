"""The checker of histories: what a reader received, held against what truly happened.

Give it the transcript of one reader and the histories of the flows; it answers with the violations
of ``positions`` 10 and 11, one sentence each. It shares no code with the server and no socket with
anybody, and is itself under test with broken histories.

The walk goes forward through the transcript. ``done`` is the number up to which every matching
change is accounted for: a message with a position claims everything up to it, so whatever is
missing shows at the next such message.

Source: ``positions`` 4, 5.3 to 5.5, 6, 10, 11 (I3 to I6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowkit.protocol.positions import Position
from tests.together.feeds.history import Happened, History, Key, Predicate, View, apply

__all__ = ["Asked", "Heard", "Transcript", "Violation", "check"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reader subscribes to, the same for all of its life.

    Attributes:
        name: for reports.
        matches: the filter, as a plain function.
        changes: the kinds, for a listener.
        live: whether it is a view.
        slow: ``disconnect``, ``drop`` or ``squash``.
        about: what it is, for reports.
    """

    name: str
    matches: Predicate
    changes: frozenset[str] = frozenset({"create", "replace"})
    live: bool = False
    slow: str = "disconnect"
    about: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.about}".strip()

    @property
    def needs_old(self) -> bool:
        """Whether mark V counts for it, not E."""
        return self.live or bool(self.changes & {"delete", "evict"})


@dataclass(frozen=True, slots=True)
class Heard:
    """One entry of a transcript.

    Attributes:
        era: which opening of the store it came from.
        said: the message, or the body of a reply.
        since: of a reply: the place that was sent along, None for none.
        is_reply: whether it is a reply to ``subscribe``; everything before it on the same
            connection was of the reader that it replaced.
    """

    era: int
    said: Mapping[str, Any]
    since: str | None = None
    is_reply: bool = False


@dataclass(slots=True)
class Transcript:
    """Everything that one reader heard, over all its connections.

    Attributes:
        asked: what it subscribed to.
        heard: in order.
        rest: the view as a find answers it, when everything is at rest; None if it was not asked.
        is_at_rest: whether it was connected and everything had been given time to arrive.
        progress_max: changes after which a quiet reader must have been told its place.
        last_era: the era in which everything came to rest; 0 for that of the last entry.
        is_users: whether it is what a user of the client library was told, who does not see
            connections and marks of progress: a gap that was not yet passed may come again.
    """

    asked: Asked
    heard: list[Heard] = field(default_factory=list)
    rest: View | None = None
    is_at_rest: bool = True
    progress_max: int = 1_000
    last_era: int = 0
    is_users: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that was not kept.

    Attributes:
        rule: which; the first word is an invariant of the contract, or ``wire``.
        reader: whose.
        text: what happened.
    """

    rule: str
    reader: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.reader}: {self.text}"


def check(transcript: Transcript, histories: Mapping[str, History]) -> list[Violation]:
    """The violations of one reader's transcript.

    Args:
        transcript: what it heard.
        histories: every flow that ever was, by id.
    """
    walk = _Walk(transcript, histories)
    for heard in transcript.heard:
        walk.step(heard)
    walk.end()
    return walk.found


_OF_LISTENERS = {"message", "position", "gap", "end"}
_OF_RETURNS = {"rolled-back", "recreated"}
_OF_VIEWS = {"snapshot", "item", "enter", "update", "leave", "position", "end"}


class _Walk:
    """One pass over a transcript."""

    def __init__(self, transcript: Transcript, histories: Mapping[str, History]) -> None:
        self.found: list[Violation] = []
        self._transcript = transcript
        self._asked = transcript.asked
        self._histories = histories
        self._history: History | None = None
        self._era = 0
        self._began = False
        self._is_over = False
        self._place: Position | None = None
        self._order = 0
        self._done = 0
        self._seen: dict[tuple[str, Key], Happened] = {}
        self._covered_to = 0
        self._gap_to = -1
        self._due: frozenset[str] = frozenset()
        self._held: View = {}
        self._buffer: View | None = None
        self._truth: tuple[str, int, int, View] | None = None

    # -- one entry

    def step(self, heard: Heard) -> None:
        """Go on by one entry."""
        self._era = heard.era
        if heard.is_reply:
            self._reply(heard)
            return
        kind, said = heard.said.get("type"), heard.said
        if not self._began or self._is_over:
            self._fault("wire order", f"{kind} without a reply before it")
        allowed = _OF_VIEWS if self._asked.live else _OF_LISTENERS
        if kind not in allowed:
            self._fault("wire type", f"{kind} is not for this reader")
            return
        if self._history is None or said.get("resource") != self._history.flow_id:
            self._fault("wire resource", f"{said.get('resource')} is not the flow of the reply")
            return
        if self._due and said.get("reason") not in self._due:
            self._fault("I4 gap", f"{kind}, where a gap was due: {sorted(self._due)}")
        if said.get("reason") in _OF_RETURNS and not (self._due or self._transcript.is_users):
            self._fault("I4 gap", f"{said['reason']}, where the reader did not come back to that")
        self._due = frozenset()
        position = self._position(said)
        getattr(self, f"_on_{kind}")(said, position)
        if position is not None:
            self._place = position

    def _reply(self, heard: Heard) -> None:
        position = Position.parse(heard.said["position"])
        known = self._histories.get(position.flow_id)
        if known is None or not known.has(self._era, (position.epoch, position.seq)):
            self._fault("wire position", f"the reply names {position}, which is no change")
            return
        if str(self._place or heard.since) != str(heard.since):
            self._fault("wire since", f"the reader was at {self._place}, not at {heard.since}")
        if not self._asked.live:
            self._due = self._gaps_due(known)
        if self._due == {"recreated"}:
            self._order = self._done = self._covered_to = 0
        self._history, self._buffer, self._is_over = known, None, False
        self._gap_to = -1
        if not self._began or self._place is None:
            self._began = True
            self._order = self._done = self._covered_to = position.seq
            self._place = None if self._asked.live else position
            if self._asked.live and heard.said["mode"] != "snapshot":
                self._fault("wire mode", f"a new view began with {heard.said['mode']}")

    def _gaps_due(self, known: History) -> frozenset[str]:
        """The reasons one of which the first message must give, where the place is not of here."""
        place = self._place
        if place is None:
            return frozenset()
        if place.flow_id != known.flow_id:
            return frozenset({"recreated"})
        if known.has(self._era, (place.epoch, place.seq)):
            return frozenset()
        return frozenset({"rolled-back", "unknown"})

    def _position(self, said: Mapping[str, Any]) -> Position | None:
        text = said.get("position")
        if text is None:
            return None
        position, key = Position.parse(text), Position.parse(text)
        assert self._history is not None
        if not self._history.has(self._era, (key.epoch, key.seq)):
            self._fault("I3 position", f"{text} is no change of this history")
        return position

    # -- listeners

    def _on_message(self, said: Mapping[str, Any], position: Position | None) -> None:
        assert self._history is not None
        if position is None:
            self._fault("wire position", "a message without one")
            return
        change = self._change(position)
        if change is None or change.new is change.old:  # never stored, its value is not known
            return
        if (self._history.flow_id, change.key) in self._seen:
            self._fault("I3 twice", str(position))
        if position.seq <= self._order:
            self._fault("I3 order", f"{position} after number {self._order}")
        if said["change"] not in {"create" if k == "pass" else k for k in change.kinds}:
            self._fault("I3 kind", f"{said['change']} for {set(change.kinds)} at {position}")
        if said["change"] not in self._asked.changes or not self._asked.matches(change.value):
            self._fault("I3 unasked", f"{said['change']} at {position} does not match")
        if dict(said["value"]) != dict(change.value):
            self._fault("I6 value", f"{position}: {said['value']} and not {change.value}")
        self._seen[self._history.flow_id, change.key] = change
        self._account(position.seq)
        self._order = max(self._order, position.seq)

    def _on_position(self, _said: Mapping[str, Any], position: Position | None) -> None:
        if position is None:
            self._fault("wire position", "a position without one")
            return
        if self._asked.live:
            self._told_all(position.seq + 1)
            self._order = max(self._order, position.seq)
            self._compare(position)
            return
        if position.seq < self._order:
            self._fault("I3 order", f"the place went back to {position} from {self._order}")
        self._account(position.seq)
        self._order = max(self._order, position.seq)

    def _on_gap(self, said: Mapping[str, Any], position: Position | None) -> None:
        assert self._history is not None
        since, to = Position.parse(said["from"]), Position.parse(said["to"])
        reason = said["reason"]
        if (position is None) is not (reason == "forgotten"):
            self._fault("wire gap", f"{reason} with the position {position}")
        wrong = getattr(self, f"_wrong_{reason.replace('-', '_')}")(since, to)
        if wrong:
            self._fault("I4 gap", f"{reason} from {since} to {to}: {wrong}")
        if reason == "forgotten" and to.seq <= self._gap_to and not self._transcript.is_users:
            self._fault("I4 gap", f"to {to} a second time")
        self._gap_to = to.seq
        if reason in ("forgotten", "slow"):
            if since.seq > self._done:
                self._account(since.seq)
            self._covered_to = max(self._covered_to, to.seq)
            if reason == "slow":
                self._account(to.seq)
                self._order = to.seq
            return
        self._order = self._done = self._covered_to = to.seq
        if reason == "recreated":  # also one that a restore brought back: it is told from its start
            flow_id = self._history.flow_id
            self._seen = {key: value for key, value in self._seen.items() if key[0] != flow_id}

    def _wrong_forgotten(self, since: Position, to: Position) -> str:
        assert self._history is not None
        marks = self._history.marks_v if self._asked.needs_old else self._history.marks_e
        if since.seq >= to.seq:
            return "it holds no change"
        if to.seq not in marks:
            return "its end was never a mark"
        if self._place is not None and self._place.flow_id == to.flow_id:
            return "it begins before the place" if since.seq < self._place.seq else ""
        return ""

    def _wrong_slow(self, since: Position, to: Position) -> str:
        if self._asked.slow != "drop":
            return f"the reader asked for {self._asked.slow}"
        return "" if since.seq < to.seq else "it holds no change"

    def _wrong_rolled_back(self, since: Position, _to: Position) -> str:
        assert self._history is not None
        if self._history.has(self._era, (since.epoch, since.seq)):
            return "the place is a change of this very history"
        return ""

    def _wrong_unknown(self, since: Position, to: Position) -> str:
        assert self._history is not None
        if since.seq <= max(self._history.marks_e, default=0):
            return ""
        return self._wrong_rolled_back(since, to)

    def _wrong_recreated(self, _since: Position, to: Position) -> str:
        place = self._place
        if place is not None and place.flow_id == to.flow_id:
            return "the place is one of this very flow"
        return "" if to.seq == 0 else "it does not begin at 0"

    def _account(self, seq: int) -> None:
        """Everything that matches, up to that number, must have been received or covered."""
        assert self._history is not None
        changes = self._history.in_era(self._era)
        for change in changes[self._done : seq]:
            if not change.is_certain_for(self._asked.changes):
                continue
            if not self._asked.matches(change.value):
                continue
            got = self._seen.get((self._history.flow_id, change.key))
            if got is None and change.seq > self._covered_to:
                self._fault("I3 missed", f"{set(change.kinds)} at {change.key}: {change.value}")
            elif got is not None and got != change:
                self._fault("I3 another", f"{change.key} was {got.value} and is {change.value}")
        self._done = max(self._done, seq)

    # -- views

    def _on_snapshot(self, said: Mapping[str, Any], position: Position | None) -> None:
        if said["state"] == "begin":
            self._buffer = {}
            return
        if self._buffer is None or position is None:
            self._fault("wire snapshot", "an end without a beginning or without a position")
            return
        self._held, self._buffer = self._buffer, None
        self._order = self._done = position.seq
        self._compare(position, always=True)

    def _on_item(self, said: Mapping[str, Any], _position: Position | None) -> None:
        if self._buffer is None:
            self._fault("wire snapshot", "an item outside of a snapshot")
            return
        if said["value"]["id"] in self._buffer:
            self._fault("I5 item", f"{said['value']['id']} twice in a snapshot")
        self._buffer[said["value"]["id"]] = said["value"]

    def _on_enter(self, said: Mapping[str, Any], position: Position | None) -> None:
        self._put(said, position, is_new=True)

    def _on_update(self, said: Mapping[str, Any], position: Position | None) -> None:
        self._put(said, position, is_new=False)

    def _put(self, said: Mapping[str, Any], position: Position | None, *, is_new: bool) -> None:
        drop_id = said["value"]["id"]
        if position is None or self._buffer is not None:
            self._fault("wire view", f"{said['type']} without a position, or in a snapshot")
            return
        if (drop_id in self._held) is is_new and self._asked.slow != "squash":
            self._fault("I5 word", f"{said['type']} of {drop_id}, held: {not is_new}")
        self._held[drop_id] = said["value"]
        self._moved(position)

    def _on_leave(self, said: Mapping[str, Any], position: Position | None) -> None:
        if position is None or self._buffer is not None:
            self._fault("wire view", "leave without a position, or in a snapshot")
            return
        held = self._held.pop(said["id"], None)
        if held is None and self._asked.slow != "squash":
            self._fault("I5 word", f"leave of {said['id']}, which is not held")
        change = self._change(position)
        reasons = {"delete": "deleted", "evict": "evicted"}
        if change and said["reason"] not in {reasons.get(k, "changed") for k in change.kinds}:
            self._fault("I5 reason", f"{said['reason']} for {set(change.kinds)} at {position}")
        self._moved(position)

    def _moved(self, position: Position) -> None:
        if position.seq <= self._order:
            self._fault("I5 order", f"{position} after number {self._order}")
        self._told_all(position.seq)
        self._order = position.seq
        self._compare(position)

    def _told_all(self, before: int) -> None:
        """No change of what matches lies between the last message and the one of that number."""
        if self._asked.slow == "squash" or self._history is None:
            return
        for change in self._history.in_era(self._era)[self._order : before - 1]:
            states = (change.old, None if change.kinds == {"pass"} else change.new)
            if any(state is not None and self._asked.matches(state) for state in states):
                self._fault("I5 missed", f"{set(change.kinds)} at {change.key}")

    def _compare(self, position: Position, *, always: bool = False) -> None:
        """The view is what matched at that position; under ``squash`` only at rest."""
        if self._asked.slow == "squash" and not always:
            return
        wanted = self._at(position.seq)
        if wanted != self._held:
            self._fault("I5 view", f"at {position}: {_difference(self._held, wanted)}")
            self._held = dict(wanted)  # one fault, one report

    def _at(self, seq: int) -> View:
        assert self._history is not None
        flow_id, era, at, view = self._truth or ("", -1, 0, {})
        if (flow_id, era) != (self._history.flow_id, self._era) or at > seq:
            at, view = 0, {}
        for change in self._history.in_era(self._era)[at:seq]:
            apply(view, change, self._asked.matches)
        self._truth = self._history.flow_id, self._era, seq, view
        return view

    # -- both

    def _on_end(self, said: Mapping[str, Any], _position: Position | None) -> None:
        self._is_over = True
        self._held, self._buffer = {}, None
        if self._asked.live:  # it is emptied, so there is no place that it could go on from
            self._place = None
        if said["reason"] != "deleted":
            self._fault("wire end", f"{said['reason']}: {said.get('errors')}")

    def _change(self, position: Position) -> Happened | None:
        assert self._history is not None
        if not self._history.has(self._era, (position.epoch, position.seq)) or not position.seq:
            return None
        return self._history.in_era(self._era)[position.seq - 1]

    def end(self) -> None:
        """What must hold when everything is at rest."""
        if not self._transcript.is_at_rest:
            return
        if self._history is None:
            self._fault("wire end", "it never had a reply")
            return
        if self._transcript.last_era > self._era and not self._history.is_gone:
            self._fault("wire end", "it did not come back after the last start of the server")
            return
        if self._is_over or self._history.is_gone:
            if not self._history.is_gone:
                self._fault("wire end", "the reader ended, and its flow is there")
            return
        self._at_rest(self._history)

    def _at_rest(self, history: History) -> None:
        head = len(history.in_era(self._era))
        place = self._place.seq if self._place is not None else -1
        if head - place >= self._transcript.progress_max:
            self._fault("I4 progress", f"at rest the place is {place}, the head {head}")
        if not self._asked.live:
            self._account(head)
            return
        if self._buffer is not None:
            self._fault("I5 rest", "a snapshot without an end")
        wanted = self._at(head)
        if self._held != wanted:
            self._fault("I5 rest", _difference(self._held, wanted))
        found = self._transcript.rest
        if found is not None and found != self._held:
            self._fault("I5 find", _difference(self._held, found))

    def _fault(self, rule: str, text: str) -> None:
        self.found.append(Violation(rule, str(self._asked), text))


def _difference(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What a view lacks, has too much, or has in another state."""
    lacks = sorted(set(wanted) - set(held))
    more = sorted(set(held) - set(wanted))
    other = sorted(key for key in set(held) & set(wanted) if held[key] != wanted[key])
    return f"lacks {lacks}, has {more} too much, has another state of {other}"
