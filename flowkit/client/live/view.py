"""A live query as a mapping: the drops that match now, by id, kept up to date by the event loop.

A view needs no user who keeps up: what it holds is always what has come. Those who follow its
shifts have a ``Follower`` each, which remembers what it has told; one that falls far behind is told
the difference between that and what the view holds now, in place of every step between.

Source: ``positions`` 4 (views), 6.2 to 6.4 (snapshots), 10.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from flowkit import limits
from flowkit.client.live.values import Shift
from flowkit.errors import DeadlineExceeded, FlowKitError, UsageError
from flowkit.green import Cell, NativeLocal, NativeLock, monotonic

__all__ = ["Follower", "LiveView"]

Drops = dict[str, dict[str, Any]]


class LiveView(Mapping[str, Mapping[str, Any]]):
    """The drops of a flow that match a filter, by id; made by ``api.drop(flow).live(filter)``.

    Reading it never waits: it holds what has come so far, nothing before the first snapshot (see
    ``wait_ready``). It may be read from any thread. Its drops are not to be changed.

    Attributes:
        flow: id or path of the flow, as it was given.
        lock, held: for its followers: what it holds, and what guards that.
    """

    def __init__(self, flow: str, end: Callable[[], object]) -> None:
        self.flow = flow
        self._end = end
        self.lock = NativeLock()
        self._walk = NativeLocal()
        self.held: Drops = {}
        self._coming: Drops | None = None
        self._place: str | None = None
        self._ready: Cell[None] = Cell()
        self._error: FlowKitError | None = None
        self._is_closed = False
        self._own: Follower | None = None
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{len(self.held)} drops"
        return f"<LiveView of {self.flow}: {state}>"

    # --- reading

    def __getitem__(self, id: str) -> Mapping[str, Any]:  # noqa: A002 - the contract's name
        at = getattr(self._walk, "at", None)
        if at is not None and at[0] is id:  # the walk of this thread stands here: its own state
            return at[1]  # type: ignore[no-any-return]
        return self.held[id]

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Iterator[str]:
        """The ids of this moment. What changes meanwhile does not disturb the walk: ``view[id]`` of
        the id that it stands at is the drop of the walk's beginning. So ``dict(view)`` is one
        moment.
        """
        walk = self._walk
        try:
            for at in self.snapshot().items():
                walk.at = at
                yield at[0]
        finally:
            walk.at = None

    def values(self) -> Any:
        """The drops of this moment."""
        return self.snapshot().values()

    def items(self) -> Any:
        """Ids and drops of this moment."""
        return self.snapshot().items()

    def snapshot(self) -> dict[str, Mapping[str, Any]]:
        """All of it at one moment, as a dict; ``dict(view)`` is the same."""
        with self.lock:
            return dict(self.held)

    @property
    def place(self) -> str | None:
        """The position at which it is right; None before the first snapshot."""
        return self._place

    @property
    def is_ready(self) -> bool:
        """Whether the first snapshot is complete."""
        return self._place is not None

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, by ``close`` or by the server; it holds nothing then."""
        return self._is_closed

    def wait_ready(self, timeout_s: float | None = None) -> Self:
        """Wait for the first snapshot; returns the view itself.

        Raises:
            DeadlineExceeded: not within *timeout_s* seconds.
            FlowKitError: the server refused it.
        """
        if not self._ready.wait(timeout_s):
            raise DeadlineExceeded(f"the view of {self.flow} was not there within {timeout_s:g} s")
        self._ready.get()
        return self

    def events(self, *, timeout_s: float | None = None) -> Iterator[Shift]:
        """Its shifts from now on, beginning with an ``enter`` for each drop that it holds.

        Ends when the view is closed, or when nothing came for *timeout_s* seconds.

        Raises:
            FlowKitError: the server ended the view.
        """
        return self.follow(None).each(timeout_s)

    def follow(self, on_news: Callable[[Follower], object] | None) -> Follower:
        """Begin to remember shifts; *on_news* is called in the loop when there are some again."""
        with self.lock:
            follower = Follower(self, on_news)
            follower.is_behind = bool(self.held)
            self._followers.add(follower)
        return follower

    def follow_by(self, on_news: Callable[[Follower], object] | None) -> None:
        """The same, for as long as the view lives; another takes the place of the one before."""
        if self._own is not None:
            self._own.on_news = on_news
        elif on_news is not None:
            self._own = self.follow(on_news)

    def close(self) -> None:
        """End it. May be called from any thread, and twice."""
        if not self._is_closed:
            self._end()
            self._over(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ends(self) -> tuple[Callable[..., object], Callable[..., object], Callable[..., object]]:
        """What a reader calls in the loop: with a message, when it is confirmed, with the error
        that ends it. They do not hold a view that nobody else holds: it ends on the server, too.
        """
        held = None if self._own is None else self
        known = weakref.ref(self)

        def take(said: dict[str, Any], size: int) -> None:
            view = held or known()
            if view is not None:
                view.take(said, size)

        def ended(error: FlowKitError) -> None:
            view = held or known()
            if view is not None:
                view.ended(error)

        if held is None:
            weakref.finalize(self, self._end).atexit = False
        return take, lambda _: None, ended

    # --- what comes, in the loop

    def take(self, said: dict[str, Any], _size: int) -> None:
        """One message of the reader."""
        act = _ACTS.get(said["type"])
        if act is None:
            return
        with self.lock:
            if self._is_closed:  # perhaps just now: it stays empty
                return
            shifts = act(self, said)
            self._place = said.get("position") or self._place
            followers = list(self._followers) if shifts else []
            waking = [follower for follower in followers if follower.add(shifts)]
        for follower in waking:
            follower.tell()
        if self._place is not None:
            self._ready.set(None)

    def _snapshot(self, said: dict[str, Any]) -> list[Shift]:
        if said["state"] == "begin":
            self._coming = {}
            return []
        coming, self._coming = self._coming, None
        before, self.held = self.held, coming or {}
        return list(differences(before, self.held))

    def _item(self, said: dict[str, Any]) -> list[Shift]:
        if self._coming is not None:
            value = said["value"]
            self._coming[value["id"]] = value
        return []

    def _put(self, said: dict[str, Any]) -> list[Shift]:
        after = said["value"]
        id = after["id"]  # noqa: A001 - the contract's name
        before = self.held.get(id)
        self.held[id] = after
        return [Shift("enter" if before is None else "update", id, before, after)]

    def _leave(self, said: dict[str, Any]) -> list[Shift]:
        before = self.held.pop(said["id"], None)
        if before is None:
            return []
        return [Shift("leave", said["id"], before, None, said.get("reason"))]

    def _empty(self, said: dict[str, Any]) -> list[Shift]:
        """The server has ended it, for good or until the flow is there again."""
        before, self.held, self._coming = self.held, {}, None
        reason = "deleted" if said.get("reason") == "deleted" else None
        return [Shift("leave", id, drop, None, reason) for id, drop in before.items()]  # noqa: A001

    def ended(self, error: FlowKitError) -> None:
        """The server has ended it for good."""
        self._over(error)

    def _over(self, error: FlowKitError | None) -> None:
        with self.lock:
            self._error = error
            self._is_closed = True
            self.held = {}
        self._ready.fail(error or UsageError("this view was closed"))
        for follower in list(self._followers):
            follower.wake()

    @property
    def error(self) -> FlowKitError | None:
        """Why the server has ended it, if it has."""
        return self._error

    def forget(self, error: FlowKitError) -> None:
        """In a forked child: nobody holds the lock here, and nothing comes any more."""
        self.lock = NativeLock()
        self._over(error)


_ACTS: Mapping[str, Callable[[LiveView, dict[str, Any]], list[Shift]]] = {
    "snapshot": LiveView._snapshot,
    "item": LiveView._item,
    "enter": LiveView._put,
    "update": LiveView._put,
    "leave": LiveView._leave,
    "end": LiveView._empty,
}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Shift]:
    """The shifts that lead from one state to another, compared by whole values."""
    for id, drop in before.items():  # noqa: A001 - the contract's name
        if id not in after:
            yield Shift("leave", id, drop, None)
    for id, drop in after.items():  # noqa: A001
        was = before.get(id)
        if was is None:
            yield Shift("enter", id, None, drop)
        elif was != drop:
            yield Shift("update", id, was, drop)


class Follower:
    """One who follows the shifts of a view, at a pace of his own. The view's lock guards it.

    Args:
        view: whose.
        on_news: called in the loop when something waits again after nothing did.

    Attributes:
        is_behind: whether the next thing to tell is the difference to what the view holds.
        on_news: see there.
    """

    def __init__(self, view: LiveView, on_news: Callable[[Follower], object] | None) -> None:
        self.is_behind = False
        self._view = view
        self.on_news = on_news
        self._shifts: list[Shift] = []
        self._told: dict[str, Any] = {}
        self._bell: Cell[None] | None = None

    def add(self, shifts: list[Shift]) -> bool:
        """Something happened; under the view's lock. Whether ``wake`` is to be called after it."""
        had = bool(self._shifts) or self.is_behind
        if self.is_behind or len(self._shifts) + len(shifts) > limits.inbox_messages_max:
            self._shifts = []
            self.is_behind = True
        else:
            self._shifts += shifts
        return not had

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._view.lock:
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.set(None)

    def tell(self) -> None:
        """``wake``, and the news; in the loop."""
        self.wake()
        if self.on_news is not None:
            self.on_news(self)

    def take(self, timeout_s: float | None = 0) -> list[Shift]:
        """The shifts that wait, after at most *timeout_s* seconds; none if there are none then, or
        the view has ended.
        """
        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            with self._view.lock:
                shifts = self._taken()
                if shifts or self._view.is_closed:
                    return shifts
                bell = self._bell = self._bell or Cell()
            if not bell.wait(None if until is None else until - monotonic()):
                return []

    def _taken(self) -> list[Shift]:
        shifts, self._shifts = self._shifts, []
        if self.is_behind:
            self.is_behind = False
            shifts = list(differences(self._told, self._view.held))
        return shifts

    def each(self, timeout_s: float | None) -> Iterator[Shift]:
        """The shifts one by one; see ``LiveView.events``."""
        while shifts := self.take(timeout_s):
            for shift in shifts:
                self.told(shift)
                yield shift
        if self._view.error is not None:
            raise self._view.error

    def told(self, shift: Shift) -> None:
        """*shift* is being told."""
        if shift.after is None:
            self._told.pop(shift.id, None)
        else:
            self._told[shift.id] = shift.after
