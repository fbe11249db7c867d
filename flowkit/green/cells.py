"""A result set once, and waited for by threads and greenlets of any hub.

A foreign thread never switches a greenlet. It puts the waiter into the list of that hub's ``_Bell``
and rings; the hub wakes all that are in the list. libev joins rings that come before the hub has
looked, so a batch costs one system call.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Generic, TypeVar

from gevent import getcurrent
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter

from flowkit.errors import DeadlineExceeded, UsageError
from flowkit.green.native import NativeLocal, NativeLock, eventlet_patched

__all__ = ["Cell", "in_turn", "when_ready"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Bell:
    """Wakes the waiters of one hub, rung from any thread. Lives as long as its hub.

    The watcher runs only while somebody waits: a hub in which nobody does can end, and destroying
    it finds no active watcher.
    """

    __slots__ = ("due", "hub", "waiting", "watcher")

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.due: deque[Any] = deque()
        self.waiting = 0
        self.watcher = hub.loop.async_()

    def enter(self) -> None:
        """Called in the hub's own thread, before a waiter can be rung for."""
        if not self.waiting:
            self.watcher.start(self.wake)
        self.waiting += 1

    def leave(self) -> None:
        """Called in the hub's own thread, when a waiter has ended its wait."""
        self.waiting -= 1
        if not self.waiting:
            self.due.clear()
            self.watcher.stop()

    def ring(self, waiter: Any) -> None:
        """Wake *waiter* soon; from any thread. If its hub has gone, nothing happens."""
        if getattr(self.hub, "loop", None) is not self.watcher.loop:
            return
        self.due.append(waiter)
        with suppress(TypeError, ValueError):  # the loop was destroyed in this very moment
            self.watcher.send()

    def wake(self) -> None:
        """Runs in the hub: switch to everyone who is due."""
        due = self.due
        for _ in range(len(due)):  # who is rung for meanwhile has rung again
            if not due:  # the last one that waited has left
                return
            due.popleft().switch(None)


def _bell_of(hub: Any) -> _Bell:
    bell: _Bell | None = hub.__dict__.get("_flowkit_bell")
    if bell is None or bell.watcher.loop is not hub.loop:
        bell = hub.__dict__["_flowkit_bell"] = _Bell(hub)
    return bell


class _ThreadWaiter:
    """Blocks one native thread until woken."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = NativeLock()
        self._lock.acquire()

    def wake(self) -> None:
        self._lock.release()

    def wait(self, timeout_s: float | None) -> None:
        self._lock.acquire(True, -1 if timeout_s is None else timeout_s)


class _GreenWaiter:
    """Lets one greenlet sleep until woken, while the others of its hub run."""

    __slots__ = ("_bell", "_waiter")

    def __init__(self, hub: Any) -> None:
        if getcurrent() is hub:
            raise UsageError(
                "a callback of the event loop cannot wait", hint="spawn a greenlet that does"
            )
        self._bell = _bell_of(hub)
        self._waiter = Waiter(hub)

    def wake(self) -> None:
        self._bell.ring(self._waiter)

    def wait(self, timeout_s: float | None) -> None:
        bell = self._bell
        if timeout_s is None:
            self._waiter.get()
            return
        timer = bell.hub.loop.timer(timeout_s)
        try:
            timer.start(self._waiter.switch, None)
            self._waiter.get()
        finally:
            timer.stop()
            timer.close()


def _waiter_without_hub() -> Any:
    if eventlet_patched():
        from flowkit.green.under_eventlet import EventletWaiter

        return EventletWaiter()
    return _ThreadWaiter()


class Cell(Generic[T]):
    """A result that is set once and waited for by anybody: threads and greenlets, of any hub.

    Setting never waits. The second ``set`` or ``fail`` is ignored and returns False.
    """

    __slots__ = ("__weakref__", "_callbacks", "_error", "_lock", "_ready", "_value", "_waiters")

    def __init__(self) -> None:
        self._lock = NativeLock()
        self._ready = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._waiters: list[Any] = []
        self._callbacks: list[Callable[[Cell[T]], object]] = []

    @property
    def is_ready(self) -> bool:
        """Whether it is set; never waits."""
        return self._ready

    def set(self, value: T) -> bool:
        """Set the value and wake everybody who waits; False if it was set before."""
        return self._settle(value, None)

    def fail(self, error: BaseException) -> bool:
        """Set the error that ``get`` shall raise; False if it was set before."""
        return self._settle(None, error)

    def _settle(self, value: T | None, error: BaseException | None) -> bool:
        with self._lock:
            if self._ready:
                return False
            self._value = value
            self._error = error
            self._ready = True
            waiters, self._waiters = self._waiters, []
            callbacks, self._callbacks = self._callbacks, []
        for waiter in waiters:
            waiter.wake()
        for callback in callbacks:
            self._call(callback)
        return True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set, at most *timeout_s* seconds; whether it is set."""
        if self._ready or (timeout_s is not None and timeout_s <= 0):
            return self._ready
        hub = get_hub_if_exists()
        if hub is None:
            self._wait_with(_waiter_without_hub(), timeout_s)
            return self._ready
        bell = _bell_of(hub)
        bell.enter()
        try:
            self._wait_with(_GreenWaiter(hub), timeout_s)
        finally:
            bell.leave()
        return self._ready

    def _wait_with(self, waiter: Any, timeout_s: float | None) -> None:
        with self._lock:
            if self._ready:
                return
            self._waiters.append(waiter)
        try:
            waiter.wait(timeout_s)
        finally:
            self._forget(waiter)

    def _forget(self, waiter: object) -> None:
        """Take out a waiter that gave up; one that was woken is out already."""
        if self._ready:
            return
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def get(self, timeout_s: float | None = None) -> T:
        """Wait, then return the value or raise the stored error.

        Raises:
            DeadlineExceeded: it was not set within *timeout_s* seconds.
        """
        error, value = self.outcome(timeout_s)
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # a cell without an error holds a T

    def outcome(self, timeout_s: float | None = None) -> tuple[BaseException | None, T | None]:
        """Wait, then return ``(error, value)``, one of them None; never raises the stored error.

        Raises:
            DeadlineExceeded: it was not set within *timeout_s* seconds.
        """
        if not self._ready and not self.wait(timeout_s):
            raise DeadlineExceeded(f"no result came within {timeout_s:g} s")
        return self._error, self._value

    def on_ready(self, callback: Callable[[Cell[T]], object]) -> None:
        """Call ``callback(cell)`` once it is set: in the setter's thread, or now if it is set.

        The callback must not wait. An error of it is logged and stops nobody else.
        """
        with self._lock:
            if not self._ready:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def _call(self, callback: Callable[[Cell[T]], object]) -> None:
        try:
            callback(self)
        except Exception:  # noqa: BLE001 - a listener's fault must not reach the setter
            _log.exception("a callback of a result failed")

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else "set" if self._ready else "waiting"
        return f"<Cell {state}>"


def when_ready(cells: Sequence[Cell[Any]], act: Callable[[], object]) -> None:
    """Call *act* once all of *cells* are set: in the thread of the last setter, or now.

    *act* must not wait.
    """
    left = [cell for cell in cells if not cell.is_ready]
    if not left:
        act()
        return
    numbers = count(1)  # counts in one step, whatever thread asks

    def one_more(_: Cell[Any]) -> None:
        if next(numbers) == len(left):
            act()

    for cell in left:
        cell.on_ready(one_more)


_here = NativeLocal()


def in_turn(act: Callable[..., object], *args: object) -> None:
    """Do ``act(*args)``, which must not wait: now, or when the act that calls this has ended.

    So acts that call for one another in a long row are done one after the other, and do not nest.
    """
    due: deque[Any] | None = getattr(_here, "due", None)
    if due is not None:
        due.append((act, args))
        return
    due = _here.due = deque([(act, args)])
    try:
        while due:
            act, args = due.popleft()
            act(*args)
    finally:
        _here.due = None
