"""A listener as its user sees it: its handlers or its iteration, and its place.

A message moves the place only once it has been dealt with: when the handler has returned, or when
the iterator asks for the next one. A handler that raises has dealt with it: the error is reported,
the message does not come again.

Source: ``positions`` 6 (the wire), 10 (what is promised).
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from flowkit.client.live.inbox import Inbox
from flowkit.client.live.resume import PlaceFile
from flowkit.client.live.values import Change, Gap, GapWarning
from flowkit.errors import DeadlineExceeded, FlowKitError, UsageError
from flowkit.green import Cell, monotonic

__all__ = ["Handlers", "Subscription"]

_ENDED = object()


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a subscription calls.

    Attributes:
        drop: with each drop; None: nothing.
        change: with each ``Change``; None: nothing.
        message: with the id of the flow and each drop; None: nothing.
        gap: with each ``Gap``; None: it is said by a ``GapWarning``.
        failed: with the error of another handler, or of the file.
        noted: with the subscription, when its place in a file has moved.
    """

    drop: Callable[[dict[str, Any]], object] | None = None
    change: Callable[[Change], object] | None = None
    gap: Callable[[Gap], object] | None = None
    message: Callable[[str, dict[str, Any]], object] | None = None
    failed: Callable[[Exception], object] | None = None
    noted: Callable[[Subscription], object] | None = None


class Subscription:
    """A listener. Made by ``ws.subscribe(…)`` with handlers, and by ``api.drop(flow).subscribe(…)``
    to be iterated: ``for drop in subscription``.

    It may be closed from any thread; it is iterated by one at a time. As a context manager it
    closes at the end of the block.

    Attributes:
        flow: id or path of the flow, as it was given.
        name: the ``sub`` of the protocol; None for a plain subscription, which has no place.
    """

    def __init__(
        self,
        flow: str,
        name: str | None,
        inbox: Inbox,
        handlers: Handlers,
        *,
        end: Callable[[], object],
        place: str | None = None,
        file: PlaceFile | None = None,
        is_iterated: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        self.flow = flow
        self.name = name
        self._inbox = inbox
        self._handlers = handlers
        self._end = end
        self._place = place
        self._file = file
        self._is_iterated = is_iterated
        self._timeout_s = timeout_s
        self._batch: list[Any] = []
        self._at = 0
        self._due: str | None = None
        self._is_closed = False
        self._begun: Cell[None] = Cell()
        self._let_go: Any = None
        if is_iterated:  # one that is dropped in the middle of its loop ends on the server, too
            self._let_go = weakref.finalize(self, _dropped, end, file)
            self._let_go.atexit = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"at {self._place}"
        return f"<Subscription to {self.flow} {state}>"

    @property
    def place(self) -> str | None:
        """The position of what was dealt with last: a ``since=`` that goes on after it. None before
        the server has confirmed a subscription without ``since=``, and for a plain one.
        """
        return self._place

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, by ``close`` or by the server."""
        return self._is_closed

    def wait_ready(self, timeout_s: float | None = None) -> Self:
        """Wait until the server has confirmed it; returns the subscription itself.

        What is written after that comes. A plain subscription has no such moment.

        Raises:
            DeadlineExceeded: not within *timeout_s* seconds.
            FlowKitError: the server refuses it; it is closed then.
        """
        if self.name is None:
            raise UsageError("a plain subscription is not confirmed", hint="give it a callback")
        if not self._begun.wait(timeout_s):
            raise DeadlineExceeded(
                f"the subscription to {self.flow} was not confirmed within {timeout_s:g} s"
            )
        try:
            self._begun.get()
        except FlowKitError:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End it. Messages that were not dealt with yet are not any more; the place stays.

        May be called from any thread and handler, and twice.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._begun.fail(UsageError("this subscription is closed"))
        if self._let_go is not None:
            self._let_go.detach()
        self._end()
        if self._is_iterated:
            self._inbox.close(discard=True)
        if self._file is not None:
            self._file.close()

    def forget(self, error: FlowKitError) -> None:
        """In a forked child: whoever goes on here with the loop of the parent gets *error*."""
        self._is_closed = True
        self._begun.fail(error)
        if self._is_iterated:
            self._batch, self._at = [error], 0
            self._inbox.renew()
            self._inbox.close(discard=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._settle()
        self.close()

    def ends(self) -> tuple[Callable[..., object], Callable[..., object], Callable[..., object]]:
        """What a reader calls in the loop: with a message and its size, with the first position,
        with the error that ends it. Those of an iterated one do not hold it, so that it can go.
        """
        inbox, begun = self._inbox, self._begun
        handle, ended = (None, None) if self._is_iterated else (self.handle, self._ended)

        def begin(at: str | None) -> None:
            if at is not None:
                said = {"type": "position", "position": at}
                inbox.add(said if handle is None else (handle, said), 0)
            begun.set(None)

        def stop(error: Exception) -> None:
            inbox.add(error if ended is None else (ended, error), 0)
            if ended is None:
                inbox.close()
            begun.fail(error)

        return (inbox.add if self._is_iterated else self.hear), begin, stop

    def hear(self, said: dict[str, Any], size: int) -> None:
        """A message came, in the loop: it goes the way of all that the handlers hear."""
        self._inbox.add((self.handle, said), size)

    # --- iteration

    def __iter__(self) -> Self:
        if not self._is_iterated:
            raise UsageError(
                "this subscription calls handlers", hint="iterate api.drop(flow).subscribe(…)"
            )
        return self

    def __next__(self) -> dict[str, Any]:
        """The next drop; the one before is dealt with.

        Raises:
            StopIteration: it is closed, or nothing came within the ``timeout_s`` it was made with.
            FlowKitError: the server ended it, or refuses it.
        """
        while True:
            found = self._next(self._timeout_s)
            if isinstance(found, Change):
                return found.drop
            if not isinstance(found, Gap):
                raise StopIteration
            self._tell_gap(found, 3)

    def next(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The next drop, within *timeout_s* seconds; None: as long as it takes, 0: if it is there.

        Raises:
            DeadlineExceeded: none came in time.
            UsageError: it is closed.
            FlowKitError: the server ended it, or refuses it.
        """
        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            found = self._next(None if until is None else max(until - monotonic(), 0.0))
            if isinstance(found, Change):
                return found.drop
            if found is None:
                raise DeadlineExceeded(f"no drop came within {timeout_s:g} s")
            if not isinstance(found, Gap):
                raise UsageError("this subscription is closed")
            self._tell_gap(found, 3)

    def events(self) -> Iterator[Change | Gap]:
        """Changes and gaps instead of drops, one after the other; ends as the iteration does."""
        iter(self)
        while True:
            found = self._next(self._timeout_s)
            if not isinstance(found, Change | Gap):
                return
            yield found

    def _next(self, timeout_s: float | None) -> Any:
        """A ``Change``, a ``Gap``, ``_ENDED``, or None if the time is up."""
        if self._due is not None:
            self._settle()
        while True:
            while self._at < len(self._batch):
                said = self._batch[self._at]
                self._at += 1
                found = self._read(said)
                if found is not None:
                    return found
            if self._is_closed:
                return _ENDED
            if self._file is not None and not len(self._inbox):
                self._file.write()
            batch = self._inbox.take(timeout_s)
            if not batch:
                return None if batch is None else self._stop()
            self._batch, self._at = batch, 0

    def _read(self, said: Any) -> Change | Gap | None:
        """What an entry of the inbox is for the user; its place waits until it is dealt with."""
        if isinstance(said, FlowKitError):
            self.close()
            raise said
        if self._is_closed:
            return None
        position = said.get("position")
        if said["type"] == "message":
            self._due = position
            return Change(str(said.get("change")), said["value"], position)
        if said["type"] == "gap":
            self._due = position
            return _gap(said)
        if position is not None:
            self._move(position)
        return None

    def _settle(self) -> None:
        position, self._due = self._due, None
        if position is not None and not self._is_closed:
            self._move(position)

    def _stop(self) -> Any:
        self.close()
        return _ENDED

    # --- handlers

    def handle(self, said: dict[str, Any]) -> None:
        """Deal with a message, in the handlers' thread."""
        if self._is_closed:
            return
        kind, position = said["type"], said.get("position")
        try:
            if kind == "message":
                self._call(said, said["value"], position)
            elif kind == "gap":
                self._tell_gap(_gap(said), 2)
        except Exception as error:  # noqa: BLE001 - a handler's fault must not stop the runner
            self.fail(error)
        if position is not None:
            try:
                self._move(position)
            except OSError as error:
                self.fail(error)
            if self._file is not None and self._handlers.noted is not None:
                self._handlers.noted(self)

    def _call(self, said: dict[str, Any], drop: dict[str, Any], position: str | None) -> None:
        handlers = self._handlers
        if handlers.message is not None:
            handlers.message(said["resource"], drop)
        if handlers.drop is not None:
            handlers.drop(drop)
        if handlers.change is not None:
            handlers.change(Change(str(said.get("change")), drop, position or ""))

    def rehandle(self, handlers: Handlers) -> None:
        """Call other handlers from now on."""
        self._handlers = handlers

    def fail(self, error: Exception) -> None:
        """Report an error to whoever hears of them."""
        if self._handlers.failed is not None:
            self._handlers.failed(error)

    def _ended(self, _error: Exception) -> None:
        """The server has ended it for good; the runner tells the error."""
        if not self._is_closed:
            self.close()

    def rest(self) -> None:
        """Nothing more waits for the handlers at the moment: the place is written."""
        if self._file is not None:
            self._file.write()

    # --- both

    def _tell_gap(self, gap: Gap, depth: int) -> None:
        if self._handlers.gap is not None:
            self._handlers.gap(gap)
        else:
            warnings.warn(f"{self.flow}: {gap}", GapWarning, stacklevel=depth)

    def _move(self, position: str) -> None:
        self._place = position
        if self._file is not None:
            self._file.note(position)


def _dropped(end: Callable[[], object], file: PlaceFile | None) -> None:
    """Nobody holds the subscription any more."""
    end()
    if file is not None:
        with suppress(OSError):  # nobody is there to be told
            file.close()


def _gap(said: dict[str, Any]) -> Gap:
    return Gap(str(said.get("reason")), said.get("from"), said.get("to"))
