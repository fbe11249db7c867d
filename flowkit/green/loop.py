"""An event loop on a native thread of its own, for what must go on whatever its callers do.

Whoever uses it may be a plain thread or a greenlet, in a patched process or not: nothing of it runs
in the caller's thread. One function at a time runs in a loop, until it waits; so what does not wait
is one uninterrupted step.

Every loop ends before the interpreter does: a thread that still runs one while the interpreter is
taken down crashes the process.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
from gevent._hub_local import get_hub_if_exists

from flowkit.errors import UsageError
from flowkit.green.cells import Cell
from flowkit.green.native import NativeLock, start_thread
from flowkit.green.tasks import Task

__all__ = ["Loop", "SharedLoop", "Signal"]

_log = logging.getLogger(__name__)

Signal = gevent.event.Event
"""A flag that greenlets of one loop wait for: ``set``, ``clear``, ``wait(timeout)``, ``is_set``."""


class Loop:
    """A native daemon thread that runs greenlets.

    Args:
        name: of the thread, for logs.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._hub: Any = None
        self._stop: Cell[None] = Cell()
        self._ended: Cell[None] = Cell()
        # Waited for natively, for a millisecond: were this to let other greenlets run, the next one
        # that wants the same loop would meet the lock of its maker, and block the thread for good.
        began = NativeLock()
        began.acquire()
        start_thread(self._run, began, name=name)
        began.acquire()
        _loops.add(self)

    def _run(self, began: Any) -> None:
        self._hub = gevent.get_hub()
        # A SystemExit ends the greenlet in which it is raised, as it would end a thread: whoever
        # waits for others of this loop would wait for ever.
        self._hub.SYSTEM_ERROR = ()
        began.release()
        try:
            self._stop.wait()
        finally:
            hub, self._hub = self._hub, None
            hub.destroy(destroy_loop=True)
            self._ended.set(None)

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in this loop."""
        return self._hub is not None and get_hub_if_exists() is self._hub

    def post(self, function: Callable[..., object], *args: object) -> bool:
        """Run a function that does not wait, soon, in the loop; from any thread.

        Returns:
            False if the loop has ended: it will not run then.
        """
        hub = self._hub
        if hub is None:
            return False
        try:
            hub.loop.run_callback_threadsafe(_logged, function, args)
        except (AttributeError, ValueError, TypeError):  # it was destroyed in this very moment
            return False
        return True

    def spawn(self, function: Callable[..., Any], *args: Any) -> Cell[Any]:
        """Run ``function(*args)``, which may wait, in a greenlet of the loop; its outcome.

        Raises:
            UsageError: the loop has ended.
        """
        task_cell: Cell[Any] = Cell()

        def begin() -> None:
            task = Task(function, *args)
            task.cell = task_cell
            task.start()

        if not self.post(begin):
            raise UsageError(f"{self._name} has ended", hint="make a new one")
        return task_cell

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """``function(*args)`` run in the loop; waits for it and returns or raises its outcome."""
        return function(*args) if self.is_here else self.spawn(function, *args).get()

    def close(self) -> None:
        """End the loop; what still runs in it is left behind. May be called twice."""
        self._stop.set(None)
        if not self.is_here:
            self._ended.wait(5.0)


class SharedLoop:
    """A loop that a process has once: made at first use, and anew in a forked child.

    Args:
        name: of its thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked child has no such thread, and somebody else may have held the lock."""
        self._lock = NativeLock()
        self._loop: Loop | None = None

    def get(self) -> Loop:
        """The loop of this process."""
        loop = self._loop
        if loop is None:
            with self._lock:
                loop = self._loop = self._loop or Loop(self._name)
        return loop


_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


@atexit.register  # at import, so that it is called after what uses loops has said good-bye
def _end_all() -> None:
    for loop in list(_loops):
        loop.close()


def _forget_all() -> None:
    """In a forked child: their threads are the parent's."""
    _loops.clear()


os.register_at_fork(after_in_child=_forget_all)


def _logged(function: Callable[..., object], args: tuple[object, ...]) -> None:
    try:
        function(*args)
    except Exception:  # noqa: BLE001 - nobody else would hear of it
        _log.exception("a callback of an event loop failed")
