"""Who listens to which flow: commits in, changes to readers out.

The store tells the hub of every commit, on the writer's thread; the hub works it off on its loop,
in order. A **channel** is a flow with readers: its ``published`` is the last number that the hub
has given out. A commit that does not follow it without a hole, or whose changes are not known, is
never guessed at: the readers that lack something go back to the pages of the store.

Rules: but for ``told``, everything runs on the loop and nothing waits.

Source: ``positions`` 7 (from replay to live).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from flowkit import limits
from flowkit.green import monotonic
from flowkit.query.places import Places
from flowkit.server.live.told import Told
from flowkit.server.store.base import Commit, FlowCommit, Store

if TYPE_CHECKING:
    from flowkit.server.live.reader import Reader
    from flowkit.server.live.sessions import LiveSession

__all__ = ["Channel", "Hub"]

_RIGHTS = frozenset({"token", "share", "group", "identity", "flow"})
"""What may change who may read what."""


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
        on_rights: called on the loop after a commit that may have changed who may read what.
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
        self._is_due = False
        self.offered = 0

    # From the store

    def told(self, commit: Commit) -> None:
        """Called by the store after each commit, on its writer's thread; never waits."""
        if not self._channels:
            return
        if commit.kinds & _RIGHTS or any(key in self._channels for key in commit.flows):
            self._commits.append(commit)
            if not self._is_due:  # one wake-up for all commits until the loop has looked
                self._is_due = True
                self._post(self._work_off)

    def _work_off(self) -> None:
        """Publish the commits that wait, each in one uninterrupted step."""
        self._is_due = False
        touched: dict[LiveSession, None] = {}
        while self._commits:
            commit = self._commits.popleft()
            for flow_id, done in commit.flows.items():
                channel = self._channels.get(flow_id)
                if channel is not None:
                    touched.update((reader.session, None) for reader in channel.readers)
                    self._publish(channel, done, commit.epoch)
            if commit.kinds & _RIGHTS:
                self._on_rights()
        for session in touched:
            session.flush()

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
