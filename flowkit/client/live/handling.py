"""Where a runner's handlers run: one thread or greenlet that takes what came, in batches.

One handler runs at a time. One that raises is reported to ``on_error`` and passed; an ``on_error``
that raises is logged. Without an ``on_error`` everything is logged.

Source: protocol 13.1 (callbacks), 13.2 (defects 66, 67, 69, 70, 75).
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowkit import green
from flowkit.client.live.inbox import Inbox
from flowkit.client.live.subscription import Handlers, Subscription
from flowkit.client.live.view import Follower, LiveView
from flowkit.errors import FlowKitError, UsageError

if TYPE_CHECKING:
    from flowkit.client.live.runner import WebSocket

__all__ = ["Handling"]

_log = logging.getLogger("flowkit.client")


class Handling:
    """The handlers of one runner. What begins with ``tell`` is called in the loop.

    Args:
        runner: whose; handed to every handler.
        inbox: where what came waits for them.
    """

    def __init__(self, runner: WebSocket, inbox: Inbox) -> None:
        self._runner = runner
        self._inbox = inbox
        self._lock = green.NativeLock()
        self._thread: int | None = None
        self._done: green.Cell[None] | None = None
        self._opening: dict[Any, list[Subscription | LiveView]] | None = None
        self._opened: dict[Any, list[Subscription | LiveView]] = {}
        self._noted: set[Subscription] = set()
        self.is_closing = False

    # --- the thread of the handlers

    def claim(self) -> None:
        """The handlers run here from now on.

        Raises:
            UsageError: they run somewhere already.
        """
        with self._lock:
            if self._done is not None:
                raise UsageError("this runner runs already", hint="one of run() and start(), once")
            self._done = green.Cell()

    @property
    def is_claimed(self) -> bool:
        """Whether the handlers run, or have run, somewhere."""
        return self._done is not None

    def work(self) -> None:
        """Call handlers until the runner has ended."""
        assert self._done is not None
        self._thread = threading.get_ident()
        try:
            while entries := self._inbox.take():
                for act, said in entries:
                    act(said)
                if not len(self._inbox):
                    self._rest()
        finally:
            self._done.set(None)

    def _rest(self) -> None:
        """Nothing waits at the moment: write the places that have moved."""
        while self._noted:
            self.guard(self._noted.pop().rest)

    def wait(self, timeout_s: float) -> None:
        """Wait until no handler runs any more, unless a handler itself asks."""
        if self._done is not None and self._thread != threading.get_ident():
            self._done.wait(timeout_s)

    def handlers_of(self, on_drop: Any, on_change: Any, on_gap: Any) -> Handlers:
        """What a subscription with these calls; without the first two the runner's on_message."""
        message = self._pass_on if on_drop is None and on_change is None else None
        return Handlers(on_drop, on_change, on_gap, message, self.report, self._noted.add)

    def _pass_on(self, resource: str, drop: dict[str, Any]) -> None:
        if self._runner.on_message is not None:
            self._runner.on_message(self._runner, resource, drop)

    def guard(self, handler: Callable[..., object], *args: Any, **named: Any) -> None:
        """Call a handler; its error goes to ``on_error``."""
        try:
            handler(*args, **named)
        except Exception as error:  # noqa: BLE001 - a handler's fault must not stop the runner
            self.report(error)

    def report(self, error: Exception) -> None:
        """Hand *error* to ``on_error``, or log it."""
        on_error = self._runner.on_error
        if on_error is None:
            _log.warning("%r: %s", self._runner, error, exc_info=_trace_of(error))
            return
        try:
            on_error(self._runner, error)
        except Exception:  # noqa: BLE001 - there is nobody left to tell but the log
            _log.exception("on_error failed")

    # --- what the loop tells

    def tell_open(self) -> None:
        """A connection is open."""
        if self._runner.on_open is not None:
            self._inbox.add((self._open, None), 0)

    def tell_closed(self, code: int | None, reason: str) -> None:
        """A connection has ended."""
        if self._runner.on_close is not None:
            self._inbox.add((self._closed, (code, reason)), 0)

    def tell_failed(self, error: Exception) -> None:
        """Something went wrong."""
        if self._runner.on_error is None:
            self.report(error)
        elif not self._inbox.is_full:
            self._inbox.add((self.report, error), 0)

    def tell_plain(self, said: dict[str, Any], size: int) -> None:
        """A message of a plain subscription."""
        if self._runner.on_message is not None and not self.is_closing:
            self._inbox.add((self._message, said), size)

    def tell_reply(
        self, callback: Callable[..., object] | None, error: FlowKitError | None, body: Any
    ) -> None:
        """The reply to a command came, or never will."""
        if callback is not None or error is not None:
            self._inbox.add((self._reply, (callback, error, body)), 0)

    def tell_shifts(self, follower: Follower, on_change: Callable[..., object]) -> None:
        """A view has shifted."""
        self._inbox.add((self._shifts, (follower, on_change)), 0)

    # --- the calls

    def _open(self, _said: None) -> None:
        on_open = self._runner.on_open
        if on_open is None:
            return
        self._opening = {}
        try:
            self.guard(on_open, self._runner)
        finally:
            for key, made in self._opening.items():
                self._opened[key] = made + self._opened.get(key, [])
            self._opening = None

    def again(self, key: Any) -> Subscription | LiveView | None:
        """A reader that an earlier ``on_open`` made just as the present one is about to; so it is
        not made a second time after a loss.
        """
        if self._opening is None or self._thread != threading.get_ident():
            return None
        known = self._opened.get(key, [])
        while known:
            found = known.pop(0)
            if not found.is_closed:
                self._opening.setdefault(key, []).append(found)
                return found
        return None

    def made(self, key: Any, reader: Subscription | LiveView) -> None:
        """A reader was made; if by an ``on_open``, the next one makes it again."""
        if self._opening is not None and self._thread == threading.get_ident():
            self._opening.setdefault(key, []).append(reader)

    def _closed(self, said: tuple[int | None, str]) -> None:
        self._runner.code, self._runner.reason = said
        if self._runner.on_close is not None:
            self.guard(self._runner.on_close, self._runner)

    def _message(self, said: dict[str, Any]) -> None:
        on_message = self._runner.on_message
        if on_message is not None and not self.is_closing:
            self.guard(on_message, self._runner, said.get("resource"), said.get("value"))

    def _reply(self, said: tuple[Callable[..., object] | None, FlowKitError | None, Any]) -> None:
        callback, error, body = said
        if error is None:
            if callback is not None:
                self.guard(callback, self._runner, body)
        elif callback is not None and _takes_error(callback):
            self.guard(callback, self._runner, None, error=error)
        else:
            self.report(error)

    def _shifts(self, said: tuple[Follower, Callable[..., object]]) -> None:
        follower, on_change = said
        for shift in follower.take(0):
            if self.is_closing:
                return
            follower.told(shift)
            self.guard(on_change, shift)


def _takes_error(callback: Callable[..., object]) -> bool:
    """Whether a callback has a parameter ``error``."""
    try:
        return "error" in inspect.signature(callback).parameters
    except (TypeError, ValueError):
        return False


def _trace_of(error: Exception) -> Any:
    """The traceback is worth a log only if the fault is not one that we explain."""
    return None if isinstance(error, FlowKitError) else error
