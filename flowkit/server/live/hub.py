"""Who listens to which flow: commits in, changes to readers out.

The store tells the hub of every commit, on the writer's thread; the hub works it off on its loop,
in order. A **channel** is a flow with readers: its ``published`` is the last number that the hub
has given out. A commit that does not follow it without a hole, or whose changes are not known, is
never guessed at: the readers that lack something go back to the pages of the store. So do they
when more waits to be given out than may: the store holds it anyway.

Rules: but for ``told`` and ``_go_on``, everything runs on the loop and nothing waits. Many changes
for many readers are given out in parts, so that everything else on the loop has its turn.

Source: ``positions`` 7 (from replay to live).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from flowkit import limits
from flowkit.green import monotonic, sleep, spawn
from flowkit.query.places import Places
from flowkit.server.live.told import Told
from flowkit.server.store.base import Commit, FlowCommit, Store

if TYPE_CHECKING:
    from flowkit.server.live.reader import Reader
    from flowkit.server.live.sessions import LiveSession

__all__ = ["Channel", "Hub"]

_RIGHTS = frozenset({"token", "share", "group", "identity", "flow"})
"""What may change who may read what."""

_PART_OFFERS = 4_000
"""Changes times readers of one part, between two looks at the clock."""

_PAUSE_S = 0.001
"""A real wait: the loop looks at its sockets and timers, not at what is due at once alone."""

Part = tuple[str, FlowCommit, str]
"""What is given out in one step: the flow, its changes without a hole, their epoch."""


class Channel:
    """One flow that has readers.

    Attributes:
        flow_id: the flow.
        published: the number of the last change given out; -1 while none was.
        readers: all of them, attached or not.
    """

    __slots__ = ("flow_id", "published", "readers")

    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id
        self.published = -1
        self.readers: dict[Reader, None] = {}

    def attach(self, reader: Reader) -> bool:
        """Hand *reader* the changes from now on, unless it lacks some that were given out.

        Called in the step in which its last page has been worked off.
        """
        reader.is_attached = reader.pos >= self.published
        return reader.is_attached


class Hub:
    """All channels of a server.

    Args:
        store: is told which flows are watched.
        post: runs a function on the loop, soon; from any thread.
        on_rights: called after a commit that may have changed who may read what; on the writer's
            thread, since it concerns also what waits.
        places: the table of postal codes.
    """

    def __init__(
        self,
        store: Store,
        post: Callable[[Callable[[], object]], object],
        *,
        on_rights: Callable[[], object],
        places: Places | None = None,
    ) -> None:
        self._store = store
        self._post = post
        self._on_rights = on_rights
        self._places = places
        self._channels: dict[str, Channel] = {}
        self._commits: deque[Commit] = deque()
        self._parts: deque[Part] = deque()
        self._is_due = False
        self._told_changes = self._worked_off_changes = 0
        self.offered = 0

    # From the store

    def told(self, commit: Commit) -> None:
        """Called by the store after each commit, on its writer's thread; never waits."""
        if not self._channels:
            return
        if commit.kinds & _RIGHTS:
            self._on_rights()
        if any(key in self._channels for key in commit.flows):
            count = _count(commit)
            if self._told_changes - self._worked_off_changes + count > limits.told_changes_max:
                flows = {key: replace(done, changes=None) for key, done in commit.flows.items()}
                commit, count = replace(commit, flows=flows), 0
            self._told_changes += count
            self._commits.append(commit)
            self._wake()

    def _wake(self) -> None:
        if not self._is_due:  # one wake-up for all commits until the loop has looked
            self._is_due = True
            self._post(self._work_off)

    def _work_off(self) -> None:
        """Publish what waits, part by part, for the time of one turn."""
        self._is_due = False
        until = monotonic() + limits.hub_turn_s
        touched: dict[LiveSession, None] = {}
        while (part := self._next_part()) is not None:
            flow_id, done, epoch = part
            channel = self._channels.get(flow_id)
            if channel is not None:
                touched.update((reader.session, None) for reader in channel.readers)
                self._publish(channel, done, epoch)
            if monotonic() >= until:
                break
        for session in touched:
            session.flush()
        if (self._parts or self._commits) and not self._is_due:
            self._is_due = True
            spawn(self._go_on)

    def _go_on(self) -> None:
        sleep(_PAUSE_S)
        self._post(self._work_off)

    def _next_part(self) -> Part | None:
        """What is to be published next; None for nothing."""
        while not self._parts:
            if not self._commits:
                return None
            commit = self._commits.popleft()
            self._worked_off_changes += _count(commit)
            self._parts.extend((key, done, commit.epoch) for key, done in commit.flows.items())
        flow_id, done, epoch = self._parts.popleft()
        channel = self._channels.get(flow_id)
        most = max(1, _PART_OFFERS // len(channel.readers)) if channel and channel.readers else 1
        if channel is not None and done.changes is not None and len(done.changes) > most:
            middle = done.first + most
            rest = replace(done, first=middle, changes=done.changes[most:])
            done = replace(done, head=middle - 1, changes=done.changes[:most])
            self._parts.appendleft((flow_id, rest, epoch))
        return flow_id, done, epoch

    def _publish(self, channel: Channel, done: FlowCommit, epoch: str) -> None:
        if done.is_gone:
            for reader in list(channel.readers):
                reader.end("deleted", 404, "The Flow was deleted")
            return
        known_from = done.first if done.changes is not None else done.head + 1
        for reader in channel.readers:
            if reader.is_attached and reader.pos < known_from - 1:
                reader.session.fall_behind(reader)
            if done.changes is None:
                reader.backlog = None
        channel.published = done.head
        readers = [reader for reader in channel.readers if reader.is_attached]
        waiting = [reader for reader in channel.readers if reader.backlog is not None]
        for change in done.changes or ():
            position = f"p1.{channel.flow_id}.{epoch}.{change.seq}"
            told = Told(channel.flow_id, change, position, self._places)
            for reader in readers:
                if reader.is_attached:
                    reader.offer(told)
                    self.offered += 1
            for reader in waiting:
                reader.wait_with(told)

    # For sessions

    def channel(self, flow_id: str) -> Channel:
        """The channel of a flow, made if there is none.

        It must be there before the first page of a reader is read: a commit that the page does not
        hold is then told.
        """
        channel = self._channels.get(flow_id)
        if channel is None:
            channel = self._channels[flow_id] = Channel(flow_id)
            self._watch()
        return channel

    def join(self, reader: Reader) -> Channel:
        """A reader begins to listen; it is behind until ``Channel.attach``."""
        channel = self.channel(reader.flow_id)
        channel.readers[reader] = None
        return channel

    def leave(self, reader: Reader) -> None:
        """A reader listens no longer."""
        reader.is_attached = False
        channel = self._channels.get(reader.flow_id)
        if channel is not None:
            channel.readers.pop(reader, None)
            self.forget_empty(channel)

    def forget_empty(self, channel: Channel) -> None:
        """Let go of a channel that nobody listens to."""
        if not channel.readers and self._channels.get(channel.flow_id) is channel:
            del self._channels[channel.flow_id]
            self._watch()

    def _watch(self) -> None:
        self._store.watch(frozenset(self._channels))

    def readers(self) -> Iterator[Reader]:
        """Every reader."""
        for channel in list(self._channels.values()):
            yield from list(channel.readers)

    def tell_places(self) -> None:
        """Tell readers that heard nothing for a while, though changes went by, where they stand."""
        until = monotonic() - limits.progress_s
        for reader in self.readers():
            if reader.silent and reader.is_attached and reader.told_at <= until:
                reader.tell_place()
                reader.session.flush()

    @property
    def count(self) -> int:
        """How many readers there are; from any thread."""
        return sum(len(channel.readers) for channel in list(self._channels.values()))


def _count(commit: Commit) -> int:
    """How many changes a commit holds."""
    return sum(len(done.changes or ()) for done in commit.flows.values())
