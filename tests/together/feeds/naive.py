"""Designs that look right and are not, each put into the real server by a few lines.

A checker that never finds anything proves nothing. So each design that ``positions`` 11 names must
be seen to fail in the same worlds in which the real one does not. ``late`` is no design: it makes
the moments between a page and its work, and between a commit and its hub, longer than they are.

Source: ``positions`` 11 (the list of designs), 3.3, 5.5, 7, 8.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from flowkit.green import sleep
from flowkit.server.live import pages
from flowkit.server.live.hub import Channel, Hub
from flowkit.server.live.live import Live
from flowkit.server.live.reader import Reader
from flowkit.server.live.sessions import LiveSession
from flowkit.server.live.told import Told
from flowkit.server.store import sqlite
from flowkit.server.store.batch import WriterSession
from flowkit.server.store.schema import set_meta
from tests.together.feeds.world import Plan

__all__ = ["DESIGNS", "Design", "late"]

Patches = list[Any]

SHORT = Plan(rounds=1, writes=40, restart_share=0.0, patience_s=0.8)
STALLED = Plan(
    rounds=1, writes=80, restart_share=0.0, cut_share=0.01, stall_share=0.3, patience_s=0.8
)
BACK = Plan(rounds=2, writes=60, restarts=("back",), restart_share=1.0, patience_s=0.8)


@contextmanager
def late(longest_s: float = 0.004) -> Iterator[None]:
    """Let time pass between a page and its work, and between a commit and its publication."""
    chance = random.Random()
    read, post = Live.read, Live._post

    def late_read(self: Live, job: Callable[..., Any]) -> Any:
        found = read(self, job)
        sleep(chance.random() * longest_s)
        return found

    def late_post(self: Live, function: Callable[[], object]) -> bool:
        loop = self._loop
        if loop is None or chance.random() < 0.5:
            return post(self, function)

        def after_a_while() -> None:
            sleep(chance.random() * longest_s)
            function()

        loop.spawn(after_a_while)
        return True

    with patch.object(Live, "read", late_read), patch.object(Live, "_post", late_post):
        yield


@dataclass(frozen=True, slots=True)
class Design:
    """One design that must be seen to fail.

    Attributes:
        name: in the words of the contract.
        patches: makes what is put into the server.
        plan: the world in which it shows.
    """

    name: str
    patches: Callable[[], Patches]
    plan: Plan = field(default=SHORT)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Put it into the server of this process, for a while."""
        with ExitStack() as stack:
            for each in self.patches():
                stack.enter_context(each)
            yield


def _blind_publish(self: Hub, channel: Channel, done: Any, epoch: str) -> None:
    """Publish what was told, and never ask whether anything lies before it."""
    if done.is_gone:
        for reader in list(channel.readers):
            reader.end("deleted", 404, "The Flow was deleted")
        return
    channel.published = done.head
    for change in done.changes or ():
        position = f"p1.{channel.flow_id}.{epoch}.{change.seq}"
        told = Told(channel.flow_id, change, position, self._places)
        for reader in list(channel.readers):
            if reader.is_attached:
                reader.offer(told)


def _attach_anyhow(_self: Channel, reader: Reader) -> bool:
    reader.is_attached = True
    return True


def _attach_without_comparing() -> Patches:
    return [
        patch.object(Hub, "_publish", _blind_publish),
        patch.object(Channel, "attach", _attach_anyhow),
    ]


def _attach_before_replay() -> Patches:
    join, fall_behind = Hub.join, LiveSession.fall_behind

    def join_attached(self: Hub, reader: Reader) -> Channel:
        reader.is_attached = True
        return join(self, reader)

    def stay_attached(self: LiveSession, reader: Reader) -> None:
        fall_behind(self, reader)
        reader.is_attached = not reader.needs_snapshot

    feed = LiveSession._feed

    def feed_anyway(self: LiveSession) -> None:
        for reader in self._behind:
            reader.is_attached = False
        feed(self)

    return [
        patch.object(Hub, "join", join_attached),
        patch.object(Hub, "_publish", _blind_publish),
        patch.object(LiveSession, "fall_behind", stay_attached),
        patch.object(LiveSession, "_feed", feed_anyway),
    ]


def _holes_are_not_looked_at() -> Patches:
    return [patch.object(Hub, "_publish", _blind_publish)]


def _no_skipping() -> Patches:
    offer = Reader.offer

    def offer_anyway(self: Reader, told: Told) -> None:
        self.pos = min(self.pos, told.seq - 1)
        offer(self, told)

    return [patch.object(Reader, "offer", offer_anyway)]


def _marks_read_once() -> Patches:
    work_off = pages._work_off
    first: dict[Reader, int] = {}

    def once(reader: Reader, channel: Channel, page: Any, places: Any) -> bool:
        mark = first.setdefault(reader, page.book.mark)
        if not page.has_overtaken:
            page = replace(page, book=replace(page.book, mark=mark))
        return work_off(reader, channel, page, places)

    return [patch.object(pages, "_work_off", once)]


def _floor_is_oldest_live() -> Patches:
    book = pages._book

    def floored(snapshot: Any, flow: Any, *, needs_old: bool) -> Any:
        found, _ = snapshot.states(flow, flow.head, 0, 1, 1)
        floor = found[0][0] - 1 if found else 0
        return replace(book(snapshot, flow, needs_old=needs_old), mark=floor, mark_e=floor)

    return [patch.object(pages, "_book", floored)]


def _no_ended_rows() -> Patches:
    work_off = pages._work_off

    def live_alone(reader: Reader, channel: Channel, page: Any, places: Any) -> bool:
        left = tuple(
            replace(change, old=None)
            for change in page.changes
            if change.new is not None and change.kind != "pass"
        )
        return work_off(reader, channel, replace(page, changes=left), places)

    return [patch.object(pages, "_work_off", live_alone)]


def _new_value_alone() -> Patches:
    fitted = Told.fitted

    def new_alone(self: Told, matches: Any) -> tuple[bool, bool]:
        _, after = fitted(self, matches)
        return after, after

    return [patch.object(Told, "fitted", new_alone)]


def _dropping_without_a_gap() -> Patches:
    def resume(self: Reader) -> None:
        self._dropped_from = None

    return [patch.object(Reader, "resume", resume)]


def _publishing_before_commit() -> Patches:
    chance = random.Random()

    def commit(self: WriterSession) -> None:
        changed = self._writing.write_out(self._later)
        if self._ids.last != self._last_id:
            set_meta(self._connection, "last_id", self._ids.last)
        self._tell(changed)
        is_heard = any(done.changes for done in changed.flows.values())
        if is_heard and chance.random() < 0.2:
            raise OSError("the power fails here")
        self._connection.execute("COMMIT")
        self._last_id = self._ids.last

    return [patch.object(WriterSession, "commit", commit)]


def _one_epoch() -> Patches:
    return [patch.object(sqlite, "_EPOCH_LETTERS", "e")]


def _no_progress_marks() -> Patches:
    def silent(self: Reader) -> None:
        self.silent = 0

    return [patch.object(Reader, "tell_place", silent)]


DESIGNS = (
    Design("no ended rows", _no_ended_rows),
    Design("floor = oldest live row", _floor_is_oldest_live),
    Design("attach after replay without comparing", _attach_without_comparing),
    Design("attach before replay", _attach_before_replay),
    Design("no skipping of changes <= pos", _no_skipping),
    Design("marks read once", _marks_read_once),
    Design("views judged by the new value alone", _new_value_alone),
    Design("dropping without a gap", _dropping_without_a_gap, STALLED),
    Design("publishing before commit", _publishing_before_commit),
    Design("one epoch for ever", _one_epoch, BACK),
    Design("trusting what is told: holes are not looked at", _holes_are_not_looked_at),
    Design("no progress marks", _no_progress_marks),
)
"""The designs of ``positions`` 11 that concern feeds; the bus of several nodes is, in one node, the
way from the store to the hub."""
