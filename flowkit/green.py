"""The one door to gevent: who waits how, who wakes whom, and sockets that let others run meanwhile.

Rules of this module:

* Nothing here monkey-patches, and everything here works the same in a patched process: native
  locks and threads are fetched by ``gevent.monkey.get_original``.
* A caller in a thread that has a gevent hub waits cooperatively, any other caller blocks its
  thread. ``has_hub()`` says which.
* A foreign thread never switches a greenlet. It puts the waiter into the list of that hub's
  ``_Bell`` and rings; the hub wakes all that are in the list. libev joins rings that come before
  the hub has looked, so a batch costs one system call.

No other module of flowkit imports gevent (``server/http.py`` does, for the pywsgi handler).
"""

from __future__ import annotations

import _queue
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import gevent
from gevent import getcurrent, monkey
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter, get_hub

from flowkit.errors import Cancelled, DeadlineExceeded, UsageError

__all__ = [
    "Cell",
    "Deadline",
    "NativeLock",
    "NativeQueue",
    "Slots",
    "Task",
    "eventlet_patched",
    "has_hub",
    "monotonic",
    "patched",
    "sleep",
    "spawn",
    "start_thread",
]

T = TypeVar("T")

_log = logging.getLogger(__name__)

NativeLock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
"""Makes a lock of native threads, also in a patched process. Hold it for an instant only."""

NativeQueue = _queue.SimpleQueue
"""A queue between threads whose ``get`` blocks the thread, also in a patched process."""

_start_new_thread = monkey.get_original("_thread", "start_new_thread")
_native_sleep = monkey.get_original("time", "sleep")

monotonic = time.monotonic
"""Seconds of a clock that never goes back."""


def has_hub() -> bool:
    """Whether the calling thread has a gevent hub, so that waiting must let its greenlets run.

    A thread has one from its first use of gevent on. A main thread that never touched gevent has
    none, even if the process is patched: nothing else could run there meanwhile.
    """
    return get_hub_if_exists() is not None


def patched() -> frozenset[str]:
    """Names of the standard modules that gevent has patched, for example ``{"socket", "ssl"}``."""
    return frozenset(name for name in monkey.saved if monkey.is_module_patched(name))


def eventlet_patched() -> bool:
    """Whether eventlet has patched this process's sockets."""
    patcher = sys.modules.get("eventlet.patcher")
    return bool(patcher and patcher.is_monkey_patched("socket"))


def sleep(seconds: float) -> None:
    """Wait *seconds*: cooperatively in a thread with a hub, else by blocking the thread."""
    if has_hub():
        gevent.sleep(seconds)
    else:
        _native_sleep(seconds)


def start_thread(function: Callable[..., object], *args: object, name: str | None = None) -> None:
    """Run ``function(*args)`` in a native daemon thread, also in a patched process.

    An error that the function lets out is logged with *name* and ends the thread.
    """

    def run() -> None:
        try:
            function(*args)
        except SystemExit:
            pass
        except BaseException:  # noqa: BLE001 - the last frame of a thread: nobody else can report it
            _log.exception("thread %s ended with an error", name or function)

    _start_new_thread(run, ())


class Deadline:
    """A point in time by which several steps must be done together.

    Args:
        timeout_s: seconds from now; None means never.
        what: what must be done by then, for the error.
    """

    __slots__ = ("at", "timeout_s", "what")

    def __init__(self, timeout_s: float | None, what: str = "the call") -> None:
        self.timeout_s = timeout_s
        self.at = None if timeout_s is None else monotonic() + timeout_s
        self.what = what

    def left_s(self) -> float | None:
        """Seconds left (None: unlimited).

        Raises:
            DeadlineExceeded: nothing is left.
        """
        if self.at is None:
            return None
        left = self.at - monotonic()
        if left <= 0:
            raise self.error()
        return left

    def error(self) -> DeadlineExceeded:
        """The error that says that the time is up."""
        return DeadlineExceeded(f"{self.what} took longer than {self.timeout_s:g} s")


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
        self.due.append(waiter)
        try:
            self.watcher.send()
        except ValueError:  # "operation on destroyed loop": nobody is left to be woken
            self.due.clear()

    def wake(self) -> None:
        """Runs in the hub: switch to everyone who is due."""
        due = self.due
        while due:
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
            self._wait_with(_ThreadWaiter(), timeout_s)
            return self._ready
        bell = _bell_of(hub)
        bell.enter()
        try:
            self._wait_with(_GreenWaiter(hub), timeout_s)
        finally:
            bell.leave()
        return self._ready

    def _wait_with(self, waiter: _ThreadWaiter | _GreenWaiter, timeout_s: float | None) -> None:
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
            raise Deadline(timeout_s, "waiting for a result").error()
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


class Slots:
    """A bound on how many greenlets and threads do something at once; first come, first served.

    Args:
        limit: how many may hold a slot at once, at least 1.
    """

    __slots__ = ("_free", "_lock", "_queue", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise UsageError(f"a bound of {limit} lets nobody through", hint="give at least 1")
        self.limit = limit
        self._free = limit
        self._lock = NativeLock()
        self._queue: deque[Cell[None]] = deque()

    @property
    def in_use(self) -> int:
        """Slots that are held now."""
        return self.limit - self._free

    def acquire(self, deadline: Deadline | None = None) -> None:
        """Take a slot, waiting for one if need be; give it back with ``release``.

        Raises:
            DeadlineExceeded: none became free in time; none is held then.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn: Cell[None] = Cell()
            self._queue.append(turn)
        try:
            if not turn.wait(deadline.left_s() if deadline else None):
                raise (deadline or Deadline(None)).error()
        except BaseException:
            self._give_up(turn)
            raise

    def _give_up(self, turn: Cell[None]) -> None:
        with self._lock:
            if turn in self._queue:
                self._queue.remove(turn)
                return
        self.release()  # it was granted in the same instant: pass it on

    def release(self) -> None:
        """Give a slot back; the one who waited longest gets it."""
        with self._lock:
            if not self._queue:
                self._free += 1
                return
            turn = self._queue.popleft()
        turn.set(None)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Task(gevent.Greenlet):  # type: ignore[misc]  # gevent ships no types
    """A greenlet whose outcome is a ``Cell``, so that other threads may wait for it too.

    It behaves as gevent's own (``get``, ``value``, ``exception``, ``kill``, ``join``), but prints
    no traceback when its function fails: the caller finds the error in the outcome.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__()
        self.cell: Cell[Any] = Cell()
        self._work = (function, args)
        self.rawlink(_ended)

    def _run(self) -> None:
        function, args = self._work
        try:
            self.cell.set(function(*args))
        except gevent.GreenletExit:
            self.cell.fail(Cancelled("the call was stopped before it ended"))
        except Exception as error:  # noqa: BLE001 - kept for whoever takes the outcome
            self.cell.fail(error)
        except BaseException as error:
            self.cell.fail(error)
            raise
        finally:
            del self._work

    @property
    def value(self) -> Any:
        """What the function returned; None before that and after a failure."""
        return self.cell.outcome()[1] if self.cell.is_ready else None

    @property
    def exception(self) -> BaseException | None:
        """The error of the function; None before that and after a success."""
        return self.cell.outcome()[0] if self.cell.is_ready else None

    @property
    def exc_info(self) -> tuple[Any, ...] | None:
        """The error as a triple, as gevent's greenlets give it."""
        error = self.exception
        return (type(error), error, error.__traceback__) if error is not None else None

    def successful(self) -> bool:
        """Whether the function has returned."""
        return self.cell.is_ready and self.cell.outcome()[0] is None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for the function to end; its value, or its error raised (gevent's signature).

        Raises:
            gevent.Timeout: not within *timeout* seconds, or *block* is false and it has not ended.
        """
        if not self.cell.wait(timeout if block else 0):
            raise gevent.Timeout(timeout)
        return self.cell.get()


def _ended(task: Task) -> None:
    """A task that was killed before its first step never ran its own code: settle it here."""
    if not task.cell.is_ready:
        task.cell.fail(Cancelled("the call was stopped before it began"))


def spawn(function: Callable[..., Any], *args: Any) -> Task:
    """Run ``function(*args)`` in a new greenlet of the calling thread; returns at once.

    It begins when the caller next waits. ``task.cell`` holds the outcome; a failure prints nothing.
    """
    task = Task(function, *args)
    task.start()
    return task


def current_hub() -> Any:
    """The calling thread's hub, made if it has none yet."""
    return get_hub()
