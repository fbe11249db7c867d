"""One subscription: where it stands, which changes it gets, and what happens when it is slow.

A reader is **attached** while the hub hands it every change of its flow, and **behind** while pages
of the store bring it there (``pages``). Its own ``pos`` says in both what it has dealt with; a
change that is not after it is passed over, for the store is ahead of the hub.

Rules: no method here waits.

Source: ``positions`` 4 (which changes), 5.5 (marks of progress), 6 (the wire), 8 (slow readers);
protocol 9.4 (plain subscriptions).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from random import randrange
from typing import TYPE_CHECKING, Any

import orjson

from flowkit import limits
from flowkit.errors import FlowKitError
from flowkit.protocol.session import FAULT, TOO_SLOW
from flowkit.protocol.subscribing import Subscribe
from flowkit.query.match import predicate
from flowkit.query.nodes import Everything
from flowkit.server.live.frames import frame, frame_of, payload
from flowkit.server.live.pushes import Entry, Kind
from flowkit.server.live.told import Told, shown
from flowkit.server.store.base import StoredDrop

if TYPE_CHECKING:
    from flowkit.server.live.sessions import LiveSession

__all__ = ["Reader"]

_log = logging.getLogger(__name__)

_SQUASH_SPREAD = 250
"""Views that became slow together are not all squashed at the same change."""


class Reader:
    """One subscription of a session.

    Args:
        session: whose it is.
        ask: what was asked for.
        flow_id: the flow.
        path: its path.
        typed: whether elements show their types.

    Attributes:
        pos: changes up to this number have been dealt with.
        place: the same as a position, as text.
        name: ``sub`` as JSON text; empty for a plain subscription.
        gap_to: how far gaps have been told.
        is_attached: whether the hub hands it its changes.
        needs_snapshot: whether a view must begin anew.
        attempts: how often a snapshot was overtaken since it was last attached.
        backlog: changes that came since a whole snapshot was read; None: not collected.
        is_over: whether it has ended.
    """

    def __init__(
        self, session: LiveSession, ask: Subscribe, flow_id: str, path: str, *, typed: bool
    ) -> None:
        self.session = session
        self.ask = ask
        self.flow_id = flow_id
        self.path = path
        self.typed = typed
        self.only = ask.only
        self.name = b"" if ask.sub is None else orjson.dumps(ask.sub)
        self.is_plain = ask.sub is None
        self.is_attached = False
        self.is_over = False
        self.needs_snapshot = False
        self.progress: Any = None  # of a snapshot; kept for ``pages``
        self.attempts = 0
        self.backlog: deque[Told] | None = None
        self.pos = 0
        self.place = ""
        self.gap_to = -1
        self.silent = 0
        self.told_at = session.now()
        self._unsquashed = randrange(_SQUASH_SPREAD)  # noqa: S311 - it hides nothing
        self._queued = ""
        self._dropped_from: str | None = None
        is_all = isinstance(ask.filter, Everything)
        self.matches = None if is_all else predicate(ask.filter, "drop")

    # What the hub and the pages tell it

    def begin(self, pos: int, place: str) -> None:
        """Begin behind the change *pos*; what is queued next follows it."""
        self.pos, self.place, self._queued = pos, place, place

    def offer(self, told: Told) -> None:
        """The next change of the flow."""
        if told.seq <= self.pos or self.is_over:
            return
        self.pos, self.place = told.seq, told.position
        if self._dropped_from is not None:
            return
        try:
            kind = self._kind(told)
            if kind is not None:
                self._push(told, kind)
                return
        except FlowKitError as error:
            self.end("filter", 400, f"The filter could not be evaluated: {error}")
            return
        except Exception:  # noqa: BLE001 - one reader ends, those behind it go on
            self.fail()
            return
        self.silent += 1
        if self.silent >= limits.progress_changes_max:
            self.tell_place()

    def wait_with(self, told: Told) -> None:
        """Keep a change until the snapshot on its way, and those before it, have been sent."""
        if self.backlog is not None:
            self.backlog.append(told)
            if len(self.backlog) > limits.commit_changes_max:
                self.backlog = None

    def _kind(self, told: Told) -> Kind | None:
        """What the reader is told of a change; None for nothing."""
        if self.ask.live:
            before, after = told.fitted(self.matches)
            if after:
                return "update" if before else "enter"
            return "leave" if before else None
        if told.kind in self.ask.changes and told.fits(self.matches):
            return "message"
        return None

    def _push(self, told: Told, kind: Kind) -> None:
        data = told.plain(self.typed) if self.is_plain else told.message(self, kind)
        entry = Entry(data, self, kind, told.drop_id, seq=told.seq, position=told.position)
        if self.session.is_full:
            self._too_slow(entry)
        else:
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        self.session.put(entry)
        if entry.position:
            self._queued = entry.position
            self.silent = 0
            self.told_at = self.session.now()

    def item(self, drop: StoredDrop) -> None:
        """A drop of a snapshot."""
        text = b'{"type":"item","sub":%b,"resource":"%b","value":%b}' % (
            self.name,
            self.flow_id.encode(),
            shown(drop, self.typed, self.only),
        )
        self._put(Entry(frame(text), self, "item"))

    def tell(
        self, kind: Kind, members: Mapping[str, Any], *, position: str = "", seq: int = 0
    ) -> None:
        """A message that does not count against the bound: position, gap, snapshot, end."""
        if self.is_plain:
            return
        said = {"type": kind, "sub": self.ask.sub, "resource": self.flow_id, **members}
        if position:
            said["position"] = position
        self._put(Entry(frame_of(said), self, kind, seq=seq, position=position))

    def tell_place(self) -> None:
        """Tell where the reader stands, so that a rare match costs no false gap."""
        if self._dropped_from is None:
            if self.session.is_full:
                return  # later: who does not read needs no place
            self.tell("position", {}, position=self.place, seq=self.pos)
        self.silent = 0

    def end(self, reason: str, status: int, *errors: str) -> None:
        """The reader is over, for a reason that it is told."""
        if self.is_over:
            return
        if self.is_plain and reason == "fault":  # no message says so: its client is to come again
            self.session.close(FAULT, "the server failed")
            return
        if self.place:  # else it has not begun: its subscribe is refused, and nothing comes before
            self.tell("end", {"reason": reason, "status": status, "errors": list(errors)})
        self.session.remove(self)

    def fail(self) -> None:
        """The reader ends for an error of the server; called where that was caught."""
        _log.exception("a reader of %s failed", self.flow_id)
        self.end("fault", 500, "The server failed; its log has the reason")

    # Too slow

    def _too_slow(self, entry: Entry) -> None:
        """The bound is reached (``positions`` 8)."""
        slow = self.ask.slow
        if slow == "drop":
            self._dropped_from = self._queued
            self.session.wait_for_room(self)
        elif slow == "squash":
            self._squash(entry)
        else:
            self.session.close(TOO_SLOW, "the reader is too slow")

    def _squash(self, entry: Entry) -> None:
        pushes = self.session.pushes
        self._put(entry)
        self._unsquashed += 1
        is_over = pushes.is_over_twice
        if not is_over and self._unsquashed < pushes.messages_max // 4:
            return  # it costs a look at all that waits: once in a while, and where it must be
        self._unsquashed = 0
        pushes.squash(self, _remade)
        if is_over and pushes.is_nearly_twice:
            pushes.forget(self)
            self.needs_snapshot = True
            self.session.fall_behind(self)

    def resume(self) -> None:
        """There is room again: say what was skipped, and go on, in one step."""
        if self._dropped_from is None or self.is_over:
            return
        since, self._dropped_from = self._dropped_from, None
        gap = {"reason": "slow", "from": since, "to": self.place}
        self.tell("gap", gap, position=self.place)


def _remade(entry: Entry, kind: Kind) -> bytes:
    """The frame of a view's message as another kind: with the same value, or as a position."""
    text = payload(entry.frame)
    reader = entry.reader
    if kind == "position":
        said = {"type": kind, "sub": reader.ask.sub, "resource": reader.flow_id}
        return frame_of({**said, "position": entry.position})
    return frame(b'{"type":"%b"' % kind.encode() + text[len(b'{"type":""') + len(entry.kind) :])
