"""The store read for a reader that is behind: pages of changes, and snapshots of views.

Every page is one read transaction that takes marks, head and rows together: rows may be forgotten
between two pages, and a check at the beginning would not see it. A page is at most what fits below
the bound of its reader's connection, so a replay waits for its reader and is never slow.

Source: ``positions`` 3 (marks), 5.3 (``since``), 7.2 to 7.6 (pages, hand-over, snapshots).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowkit import limits
from flowkit.errors import ServerError
from flowkit.protocol.positions import Book, Verdict, judge
from flowkit.protocol.subscribing import Subscribe
from flowkit.query.places import Places
from flowkit.server.access import flow_at, flow_with_id
from flowkit.server.auth import Credential
from flowkit.server.live.told import Told
from flowkit.server.store.base import Change, StoredDrop, StoredFlow
from flowkit.server.store.base import Reader as Snapshot

if TYPE_CHECKING:
    from flowkit.server.live.hub import Channel
    from flowkit.server.live.reader import Reader

__all__ = ["Found", "Start", "find_flow", "next_page", "start_of"]

Allowed = Callable[[Snapshot], Credential]
"""The credential of a session as it stands in a snapshot, or the refusal."""

Read = Callable[[Callable[[Snapshot], "Page"]], "Page"]
"""Runs a job on a snapshot of the store; waits."""

_ATTEMPTS_BY_PAGE = 2
"""Snapshots that are tried page by page; the next one is read whole (``positions`` 7.6)."""

_ALL = 2**31
"""More drops than a flow holds: what is read whole is bounded in bytes."""


@dataclass(frozen=True, slots=True)
class Found:
    """The flow that a subscription names."""

    flow_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Start:
    """Where a reader begins.

    Attributes:
        verdict: from which change on, and the gap before it.
        book: what the flow said of its changes.
        mode: ``live``, ``replay`` or ``snapshot``, as the reply names it.
    """

    verdict: Verdict
    book: Book
    mode: str

    @property
    def position(self) -> str:
        """Where it begins."""
        return str(self.book.at(self.verdict.after))


@dataclass(frozen=True, slots=True)
class Page:
    """What one transaction read for a reader.

    Attributes:
        book: what the flow said of its changes then.
        changes: the changes after the reader's place, in order.
        states: the drops of a snapshot.
        is_last: whether there is no more of either now.
        next_seq: where the next page of a snapshot goes on.
        has_overtaken: whether mark V has passed the number of the snapshot: it begins again.
    """

    book: Book
    changes: tuple[Change, ...] = ()
    states: tuple[StoredDrop, ...] = ()
    is_last: bool = True
    next_seq: int = 0
    has_overtaken: bool = False


@dataclass(slots=True)
class _Snapshot:
    """How far the snapshot of a view has come.

    Attributes:
        at: the number as of which the drops are read, -1 before the first page.
        place: the same as a position.
        next_seq: rows after this number are still to be read.
        is_whole: whether all drops are read in one transaction, while the hub collects the changes
            that come meanwhile.
        is_last: whether no drops are left behind those that were read.
        rest: drops that were read and are still to be sent.
    """

    at: int = -1
    place: str = ""
    next_seq: int = 0
    is_whole: bool = False
    is_last: bool = False
    rest: deque[StoredDrop] = field(default_factory=deque)


def find_flow(ask: Subscribe, snapshot: Snapshot, allowed: Allowed) -> Found:
    """The flow of a subscription, if the session may read its drops.

    Raises:
        NotFound, Forbidden: as every read of drops (3.4).
    """
    flow = _flow(ask, snapshot, allowed(snapshot))
    return Found(flow.id, flow.path)


def _flow(ask: Subscribe, snapshot: Snapshot, who: Credential) -> StoredFlow:
    if ask.flow_id is not None:
        return flow_with_id(snapshot, who, ask.flow_id, "dropRead")
    return flow_at(snapshot, who, str(ask.path), "dropRead")


def start_of(ask: Subscribe, found: Found, snapshot: Snapshot, allowed: Allowed) -> Start:
    """Where a reader begins, judged in one transaction.

    Raises:
        NotFound, Forbidden: the flow is gone, or may not be read any more.
    """
    flow = flow_with_id(snapshot, allowed(snapshot), found.flow_id, "dropRead")
    book = _book(snapshot, flow, needs_old=ask.needs_old)
    if ask.since is None:
        return Start(Verdict(flow.head), book, "snapshot" if ask.live else "live")
    verdict = judge(ask.position, book)
    if not ask.live:
        return Start(verdict, book, "replay")
    if verdict.is_exact and verdict.after >= max(book.mark, 1):
        return Start(verdict, book, "replay")
    return Start(Verdict(flow.head), book, "snapshot")


def _book(snapshot: Snapshot, flow: StoredFlow, *, needs_old: bool) -> Book:
    mark = flow.mark_v if needs_old else flow.mark_e
    epochs = snapshot.epochs(flow)
    return Book(flow.id, flow.head, mark, flow.mark_e, epochs, flow.epoch)


def next_page(reader: Reader, channel: Channel, read: Read, places: Places | None) -> bool:
    """Read and work off the next page of *reader*; whether it is attached now.

    Waits for the store. What follows the reading is one step of the loop.

    Raises:
        PlatformError: the flow is gone or may not be read any more, or the store is too busy.
    """
    if reader.needs_snapshot:
        return _next_of_snapshot(reader, channel, read, places)
    if reader.backlog is not None:
        return _catch_up(reader, channel)
    page = read(_job(reader, None))
    return not reader.is_over and _work_off(reader, channel, page, places)


def _next_of_snapshot(reader: Reader, channel: Channel, read: Read, places: Places | None) -> bool:
    progress = reader.progress
    if progress is None:
        progress = reader.progress = _Snapshot(is_whole=reader.attempts >= _ATTEMPTS_BY_PAGE)
        reader.backlog = deque() if progress.is_whole else None
    if progress.rest:
        page = None
    else:
        page = read(_job(reader, progress))
        if reader.is_over or reader.progress is not progress:
            return False
        if page.has_overtaken:
            _begin_again(reader)
            return False
    return _work_off_snapshot(reader, channel, page, places)


def _job(reader: Reader, progress: _Snapshot | None) -> Callable[[Snapshot], Page]:
    """What is read for *reader* in one transaction."""
    pushes = reader.session.pushes
    room = max(1, min(limits.replay_page_changes_max, reader.session.room))
    bytes_left = max(1, pushes.bytes_max - pushes.bytes)

    def job(snapshot: Snapshot) -> Page:
        flow = flow_with_id(
            snapshot, reader.session.credential_in(snapshot), reader.flow_id, "dropRead"
        )
        book = _book(snapshot, flow, needs_old=reader.ask.needs_old)
        if progress is not None:
            return _states(snapshot, flow, book, progress, (room, bytes_left))
        if reader.ask.live and reader.pos < book.mark:
            return Page(book, has_overtaken=True)
        changes, is_last = snapshot.changes(flow, reader.pos, room, bytes_left)
        return Page(book, tuple(changes), is_last=is_last)

    return job


# Changes


def _work_off(reader: Reader, channel: Channel, page: Page, places: Places | None) -> bool:
    book = page.book
    if page.has_overtaken:
        _begin_again(reader)
        return False
    if reader.pos < book.mark and reader.gap_to < book.mark:
        reader.gap_to = book.mark
        since, to = str(book.at(reader.pos)), str(book.at(book.mark))
        reader.tell("gap", {"reason": "forgotten", "from": since, "to": to})
    for change in page.changes:
        if reader.session.is_full:
            return False  # the rest is read again once there is room
        reader.offer(Told(book.flow_id, change, str(book.at(change.seq)), places))
        if reader.is_over:
            return False
    if not page.is_last:
        return False
    if book.head > reader.pos:  # what is not held of the last changes is behind it, too
        reader.pos, reader.place = book.head, str(book.at(book.head))
    return _attach(reader, channel)


def _attach(reader: Reader, channel: Channel) -> bool:
    if not channel.attach(reader):
        return False
    reader.attempts = 0
    reader.tell_place()
    return True


# Snapshots


def _begin_again(reader: Reader) -> None:
    """Mark V has passed the view: what it was told last cannot be continued."""
    reader.attempts += 1
    reader.needs_snapshot = True
    reader.progress = reader.backlog = None
    reader.session.pushes.forget(reader)


def _states(
    snapshot: Snapshot, flow: StoredFlow, book: Book, progress: _Snapshot, bounds: tuple[int, int]
) -> Page:
    """The next drops as of the snapshot's number; *bounds* are how many, and their bytes.

    Raises:
        ServerError: it is to be read whole, and they are larger than what is read at once.
    """
    at = book.head if progress.at < 0 else progress.at
    if book.mark > at:
        return Page(book, has_overtaken=True)
    if progress.is_whole:
        bounds = _ALL, limits.snapshot_bytes_max
    found, is_last = snapshot.states(flow, at, progress.next_seq, *bounds)
    if progress.is_whole and not is_last:
        raise ServerError("The view is too large to be read in one transaction")
    drops = tuple(drop for _, drop in found)
    last = found[-1][0] if found else 0
    return Page(book, states=drops, is_last=is_last, next_seq=last)


def _work_off_snapshot(
    reader: Reader, channel: Channel, page: Page | None, places: Places | None
) -> bool:
    """Send what was read; *page* None: what was read before and did not fit below the bound."""
    progress = reader.progress
    if progress.at < 0 and page is not None:
        progress.at, progress.place = page.book.head, str(page.book.at(page.book.head))
        reader.tell("snapshot", {"state": "begin"})
    if page is not None:
        progress.next_seq, progress.is_last = page.next_seq, page.is_last
        progress.rest.extend(page.states)
    while progress.rest:
        if reader.session.is_full:
            return False  # the rest is sent once there is room
        drop = progress.rest.popleft()
        if reader.matches is None or reader.matches(drop.doc, None, places, drop.types):
            reader.item(drop)
    if not progress.is_last:
        return False
    reader.needs_snapshot = False
    reader.progress = None
    reader.begin(progress.at, progress.place)
    reader.tell("snapshot", {"state": "end"}, position=progress.place, seq=progress.at)
    return _catch_up(reader, channel)


def _catch_up(reader: Reader, channel: Channel) -> bool:
    """Go on with the changes that the hub collected; without them, with pages."""
    if reader.backlog is None:
        return False
    while reader.backlog:
        if reader.session.is_full:
            return False  # the rest is sent once there is room
        reader.offer(reader.backlog.popleft())
        if reader.is_over:
            return False
    reader.backlog = None
    return _attach(reader, channel)
