"""``WebSocket``: what users hold of a kept connection, and call ``ws``.

Its connection lives in the event loop of all subscriptions of the process; its handlers run where
the user wants them: in the thread or greenlet that calls ``run``, or in one of its own after
``start``.

Source: protocol 9, 13.1 (the runner), 13.2 (defects 66 to 79).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from flowkit import green, limits
from flowkit.client.live import process
from flowkit.client.live.asking import (
    Asked,
    not_with_live,
    plain_subscription,
    reader_of,
    signature,
)
from flowkit.client.live.commands import Commands
from flowkit.client.live.handling import Handling
from flowkit.client.live.inbox import Inbox
from flowkit.client.live.keeper import Keeper, Told, Wishes
from flowkit.client.live.reader import Reader
from flowkit.client.live.resume import PlaceFile
from flowkit.client.live.subscription import Handlers, Subscription
from flowkit.client.live.values import Gap, Shift
from flowkit.client.live.view import LiveView
from flowkit.client.live.waiting import Pending
from flowkit.client.options import seconds
from flowkit.errors import DeadlineExceeded, UsageError

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["WebSocket"]


class WebSocket(Commands):
    """A kept connection for subscriptions and commands; made by ``api.websocket.connect(…)``.

    It connects when it runs (``run``, ``start``, ``with``) or is asked for something, and again
    after every loss, until it is closed or the credential is refused.

    Args:
        api: whose account and transport.
        on_open: ``on_open(ws)``, each time that it is connected.
        on_message: ``on_message(ws, flow_id, drop)``, for each drop without a handler of its own.
        on_close: ``on_close(ws)``, each time that a connection has ended; ``code`` and ``reason``
            say how.
        on_error: ``on_error(ws, error)``, for whatever goes wrong: once for each loss, for failed
            commands and for handlers that raise. Without it errors are logged.
        hints: whether elements show their types; None: as the API's own parameters say.
        heartbeat_s: seconds between two signs of life of this end.
        silence_s: seconds without any sign of the server after which it connects anew; more than
            *heartbeat_s*, since a quiet server is heard when it answers.

    Attributes:
        on_open, on_message, on_close, on_error: may be set at any time.
        code, reason: of the last close; None and "" if the server said nothing.
    """

    def __init__(
        self,
        api: API,
        *,
        on_open: Callable[[WebSocket], object] | None = None,
        on_message: Callable[[WebSocket, str, dict[str, Any]], object] | None = None,
        on_close: Callable[[WebSocket], object] | None = None,
        on_error: Callable[[WebSocket, Exception], object] | None = None,
        hints: bool | None = None,
        heartbeat_s: float = limits.heartbeat_s,
        silence_s: float = limits.silence_s,
    ) -> None:
        self.on_open = on_open
        self.on_message = on_message
        self.on_close = on_close
        self.on_error = on_error
        self.code: int | None = None
        self.reason = ""
        self._api = api
        if hints is None:
            hints = api.options.params.get("hints")
        times = (seconds(heartbeat_s, "heartbeat_s"), seconds(silence_s, "silence_s"))
        self._wishes = Wishes(hints, *times, api.options.timeout_s)
        self._ids = count(1)
        self._begin()
        process.join(self)

    def _begin(self) -> None:
        self._lock = green.NativeLock()
        self._is_open = False
        self._is_closed = False
        self._error: Exception | None = None
        self._loss: Exception | None = None
        self._over: green.Cell[None] = green.Cell()
        self._connected: green.Cell[None] = green.Cell()
        # Who is held by nobody else has ended: an iteration that was dropped in its middle.
        self._kept: weakref.WeakValueDictionary[str, Subscription | LiveView] = (
            weakref.WeakValueDictionary()
        )
        self._loop = process.loop()
        told = Told(self._opened, self._closed, self._failed, self._ended, self._plain)
        self._keeper = Keeper(self._api, self._loop, self._wishes, told)
        self._inbox = Inbox(self._keeper.touched, self._on_room)
        self._handling = Handling(self, self._inbox)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open" if self.is_connected else "not connected"
        return f"<WebSocket of {self._api!r}: {state}>"

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, by ``close`` or because the server refuses it."""
        return self._is_closed

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open now."""
        return self._connected.is_ready and not self._is_closed

    # --- running

    def run(self) -> None:
        """Connect, and call handlers here until it is closed. Ctrl-C closes it and is passed on.

        Raises:
            Forbidden: the credential is refused, at the beginning or later.
            PlatformError: the server refuses sessions for good.
            UsageError: it runs already, or is closed.
        """
        self._open()
        self._handling.claim()
        self._work()
        if self._error is not None:
            raise self._error

    def start(self) -> Self:
        """Connect, and call handlers in the background: in a daemon thread of their own, or, in a
        process that gevent or eventlet has patched, in a greenlet. Returns at once.

        Raises:
            UsageError: it runs already, or is closed.
        """
        self._open()
        self._handling.claim()
        if "socket" in green.patched():
            green.spawn(self._work)
        else:
            green.start_thread(self._work, name="flowkit-handlers")
        return self

    def _work(self) -> None:
        """Call handlers; without anybody who calls them there is nothing to be connected for."""
        try:
            self._handling.work()
        except BaseException:
            self.close(timeout_s=_HURRIED_S)
            raise

    def begin(self, *, with_handlers: bool) -> None:
        """Connect, and call handlers in the background if they are wanted and do not run yet."""
        self._open()
        if with_handlers and not self._handling.is_claimed:
            self.start()

    def wait_connected(self, timeout_s: float | None = None) -> Self:
        """Wait until a connection is open; returns the runner itself.

        Raises:
            DeadlineExceeded: not within *timeout_s* seconds; its cause is the last failure.
            Forbidden: the credential is refused.
            UsageError: it is closed.
        """
        self._open()
        connected = self._connected  # the next loss puts another in its place
        if not connected.wait(timeout_s):
            raise DeadlineExceeded(f"no connection within {timeout_s:g} s") from self._loss
        connected.get()
        return self

    def close(self, timeout_s: float = limits.close_timeout_s) -> None:
        """End it: subscriptions, connection, handlers. May be called from any thread and handler,
        and twice.

        Args:
            timeout_s: seconds that the server's good-bye, and a handler that runs just now, may
                take.
        """
        until = green.monotonic() + timeout_s
        with self._lock:
            is_first = not self._is_closed
            self._is_closed = True
            kept = self._living()
        self._handling.is_closing = True
        if is_first:
            self._loop.post(self._keeper.end, timeout_s)
            for one in kept:
                self._handling.guard(one.close)
            if not self._is_open:
                self._over.set(None)
        self._over.wait(until - green.monotonic())
        self._handling.wait(until - green.monotonic())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        """Begin to connect, unless that has begun."""
        with self._lock:
            if self._is_closed:
                raise self._error or UsageError(
                    "this runner is closed", hint="api.websocket.connect() makes another"
                )
            if self._is_open:
                return
            self._is_open = True
        self._loop.spawn(self._keeper.run)

    def forget(self) -> None:
        """In a forked child: what had begun is the parent's, what had not can begin here."""
        self._lock = green.NativeLock()
        self._inbox.renew()
        if not self._is_open:
            self._loop = process.loop()
            self._keeper.move(self._loop)
            return
        self._is_closed = True
        self._error = UsageError(
            "this runner is the parent's, and this is its fork", hint="connect() another one here"
        )
        self._keeper.forget()
        self._over = green.Cell()
        self._over.set(None)
        self._connected = green.Cell()
        self._connected.fail(self._error)
        self._handling = Handling(self, self._inbox)
        self._inbox.close(discard=True)
        for one in self._living():
            one.forget(self._error)

    # --- what the keeper tells, in the loop

    def _opened(self) -> None:
        self._loss = None
        self._connected.set(None)
        self._handling.tell_open()

    def _closed(self, code: int | None, reason: str) -> None:
        self.code, self.reason = code, reason
        self._connected = green.Cell()
        self._handling.tell_closed(code, reason)

    def _failed(self, error: Exception) -> None:
        self._loss = error
        self._handling.tell_failed(error)

    def _ended(self, error: Exception | None) -> None:
        self._error = error
        self._is_closed = True
        self._connected.fail(error or UsageError("this runner is closed"))
        self._inbox.close()
        self._over.set(None)

    def _plain(self, said: dict[str, Any], size: int) -> None:
        self._handling.tell_plain(said, size)

    def _on_room(self) -> None:
        self._loop.post(self._keeper.on_room)

    # --- subscriptions

    def subscribe(
        self,
        flow: Any,
        callback: Callable[..., object] | None = None,
        *,
        filter: Any = None,  # noqa: A002 - the contract's name
        since: str | None = None,
        changes: Iterable[str] | None = None,
        live: bool = False,
        slow: str | None = None,
        only: str | Iterable[str] | None = None,
        hints: bool | None = None,
        on_drop: Callable[[dict[str, Any]], object] | None = None,
        on_change: Callable[[Any], object] | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        resume_file: str | PathLike[str] | None = None,
    ) -> Subscription | LiveView:
        """Subscribe to a flow, now or as soon as it is connected, and again after every loss.

        With *flow* and *callback* alone it is a plain subscription, as it always was: one for each
        flow, its drops go to ``on_message``, what happens during a loss is not known. Any other
        argument makes a *reader*, which goes on from its place after a loss.

        Args:
            flow: its id, its path, or the flow itself.
            callback: called as ``callback(ws, body)`` when the server has confirmed it; one that
                takes ``error=`` also when it refuses.
            filter: a ``Filter``, a raw text, or a list of them.
            since: a position to go on after, or ``"start"`` for all that is still held; None: from
                now.
            changes: kinds out of ``create replace update delete evict``; None: the first two.
            live: keep a ``LiveView`` of the drops that match now, which is returned.
            slow: what the server does if this end is too slow: ``disconnect`` (then it resumes),
                ``drop`` (a gap), ``squash`` (views).
            only, hints: as in a find.
            on_drop: called with each drop; without it and *on_change* they go to ``on_message``.
            on_change: called with each ``Change``; for a view with each ``Shift``.
            on_gap: called with each ``Gap``; without it a ``GapWarning`` says it.
            resume_file: where to keep the place. If the file is there, *since* is not looked at.

        Raises:
            UsageError: it cannot be asked for like this, or the runner is closed.
            SettingsError: *resume_file* is not the place of this flow.
        """
        asked = Asked((filter,), since, changes, live, slow, only, hints)
        handlers = self._handling.handlers_of(on_drop, on_change, on_gap)
        if live:
            not_with_live(on_drop=on_drop, on_gap=on_gap, resume_file=resume_file)
            return self.view(flow, asked, on_change, callback)
        if asked.is_empty and resume_file is None and on_drop is on_change is on_gap is None:
            return self._subscribe_plain(flow, callback)
        return self.listen(flow, asked, handlers, callback, resume_file=resume_file)

    def _subscribe_plain(self, flow: Any, callback: Callable[..., object] | None) -> Subscription:
        ask = plain_subscription(flow)
        key = f"/{ask.path or ask.flow_id}"
        known = self._kept.get(key)
        if isinstance(known, Subscription) and not known.is_closed:
            if callback is not None:
                self.send(ask.message(), callback)
            return known
        subscription = Subscription(
            key[1:], None, self._inbox, Handlers(), end=partial(self._end, key)
        )
        reader = Reader(ask, subscription.hear, _nothing, _nothing, self._inbox)
        self._add(key, subscription, reader, callback)
        return subscription

    def listen(
        self,
        flow: Any,
        asked: Asked,
        handlers: Handlers,
        callback: Callable[..., object] | None = None,
        *,
        resume_file: str | PathLike[str] | None = None,
        timeout_s: float | None = None,
        is_iterated: bool = False,
    ) -> Subscription:
        """A reader, with handlers or to be iterated; what ``subscribe`` makes."""
        name = f"r{next(self._ids)}"
        ask = reader_of(flow, asked, name)
        key = signature(ask)
        known = None if is_iterated else self._handling.again(key)
        if isinstance(known, Subscription):
            known.rehandle(handlers)
            return known
        place = ask.since
        text = ask.path or str(ask.flow_id)
        file = None if resume_file is None else PlaceFile(resume_file, text)
        if file is not None and file.place is not None:
            place = file.place
        inbox = Inbox(self._keeper.touched, self._on_room) if is_iterated else self._inbox
        subscription = Subscription(
            text,
            name,
            inbox,
            handlers,
            end=partial(self._end, name),
            place=place,
            file=file,
            is_iterated=is_iterated,
            timeout_s=timeout_s,
        )
        reader = Reader(ask, *subscription.ends(), inbox, place)
        self._add(name, subscription, reader, callback)
        if not is_iterated:
            self._handling.made(key, subscription)
        return subscription

    def view(
        self,
        flow: Any,
        asked: Asked,
        on_change: Callable[[Shift], object] | None,
        callback: Callable[..., object] | None = None,
    ) -> LiveView:
        """A live query; what ``subscribe(live=True)`` makes."""
        name = f"v{next(self._ids)}"
        ask = reader_of(flow, asked, name)
        tell = on_change and partial(self._handling.tell_shifts, on_change=on_change)
        key = signature(ask)
        known = self._handling.again(key)
        if isinstance(known, LiveView):
            known.follow_by(tell)
            return known
        view = LiveView(ask.path or str(ask.flow_id), partial(self._end, name))
        view.follow_by(tell)
        self._add(name, view, Reader(ask, *view.ends()), callback)
        self._handling.made(key, view)
        return view

    def _add(
        self,
        key: str,
        kept: Subscription | LiveView,
        reader: Reader,
        callback: Callable[..., object] | None,
    ) -> None:
        is_iterated = reader.inbox is not None and reader.inbox is not self._inbox
        reader.settled = partial(self._settled, key, callback, is_iterated)
        with self._lock:
            if self._is_closed:
                raise self._error or UsageError("this runner is closed")
            self._kept[key] = kept
        self._loop.post(self._keeper.add, key, reader)

    def _living(self) -> list[Subscription | LiveView]:
        """Those that somebody holds; at one go, since others come and go in other threads."""
        return [one for known in self._kept.valuerefs() if (one := known()) is not None]

    def _settled(
        self, key: str, callback: Callable[..., object] | None, is_iterated: bool, *said: Any
    ) -> None:
        """A subscribe was confirmed for the first time, or the reader has ended; in the loop."""
        error, body = said
        if error is not None:
            self._kept.pop(key, None)
            is_told = error is self._loss and callback is None  # it ends the runner
            if is_iterated or is_told:  # an iteration raises it itself
                return
        self._handling.tell_reply(callback, error, body)

    def _end(self, key: str) -> None:
        self._kept.pop(key, None)
        self._loop.post(self._keeper.remove, key)

    def unsubscribe(self, flow: Any, callback: Callable[..., object] | None = None) -> None:
        """End the subscriptions to *flow* that this runner has, plain ones and readers.

        Args:
            flow: its id, its path, the flow itself, or a subscription.
            callback: called as ``callback(ws, body)`` when the server has confirmed the end of the
                plain one.
        """
        if isinstance(flow, Subscription | LiveView):
            flow.close()
            return
        ask = plain_subscription(flow)
        text = ask.path or str(ask.flow_id)
        with self._lock:
            ending = [one for one in self._living() if one.flow == text]
        for one in ending:
            one.close()
        said = {"object": "drop", "type": "unsubscribe"}
        said |= {"path": ask.path} if ask.path else {"flowId": str(ask.flow_id)}
        if callback is not None or not ending:
            self.send(said, callback)

    # --- commands; see ``Commands``

    def _replying(self, callback: Callable[..., object]) -> Callable[..., object]:
        return partial(self._handling.tell_reply, callback)

    def _ask(self, message: Mapping[str, Any], pending: Pending | None) -> None:
        if self._is_closed:
            raise self._error or UsageError("this runner is closed")
        said = dict(message)
        if pending is not None and said.get("msgId") is None:
            said["msgId"] = str(next(self._ids))
        data = self._api.encode(said)
        self._keeper.check_size(data)
        self._loop.post(self._keeper.ask, data, said.get("msgId"), pending)

    def _timeout_s(self, timeout: float | None) -> float:
        return self._api.options.timeout_s if timeout is None else seconds(timeout)


_HURRIED_S = 0.5


def _nothing(*_: Any) -> None:
    pass
