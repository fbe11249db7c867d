"""The event loop that all subscriptions of a process share, and what becomes of it at a fork and
at the end.

The loop is made at first use, on a daemon thread. A forked child has no such thread: runners that
had begun in the parent are the parent's, and the child makes a loop of its own when it needs one.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from typing import TYPE_CHECKING

from flowkit.green import Loop, NativeLock, SharedLoop, monotonic

if TYPE_CHECKING:
    from flowkit.client.live.runner import WebSocket

__all__ = ["join", "loop"]

_log = logging.getLogger("flowkit.client")

_FAREWELL_S = 1.0

_runners: weakref.WeakSet[WebSocket] = weakref.WeakSet()
_shared = SharedLoop("flowkit-subscriptions")
_lock = NativeLock()


def loop() -> Loop:
    """The loop of this process."""
    return _shared.get()


def join(runner: WebSocket) -> None:
    """Remember *runner* for a fork and for the end of the process."""
    with _lock:
        _runners.add(runner)


@atexit.register
def _at_exit() -> None:
    """Say good-bye to the servers and write the places that wait; within a second."""
    until = monotonic() + _FAREWELL_S
    for runner in list(_runners):
        try:
            runner.close(timeout_s=max(until - monotonic(), 0.0))
        except Exception:  # noqa: BLE001 - the process ends; the others are to be closed, too
            _log.exception("a runner could not be closed")


def _after_fork_in_child() -> None:
    global _lock
    _lock = NativeLock()  # somebody else may have held it, who is not here
    for runner in list(_runners):
        runner.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
