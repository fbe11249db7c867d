"""The one door to gevent: who waits how, who wakes whom, and sockets that let others run meanwhile.

Rules of this room:

* Nothing here monkey-patches, and everything here works the same in a patched process: native
  locks and threads are fetched by ``gevent.monkey.get_original``.
* A caller in a thread that has a gevent hub waits cooperatively, any other caller blocks its
  thread. ``has_hub()`` says which.
* A foreign thread never switches a greenlet. It rings the bell of that greenlet's hub (``cells``).

No other room of flowkit imports gevent (``server/http.py`` does, for the sockets it serves).
"""

import flowkit.green.bare  # noqa: F401 - before all others: it sees to how gevent is imported
from flowkit.green import sockets
from flowkit.green.cells import Cell, in_turn, when_ready
from flowkit.green.crews import Crew, Job, crew
from flowkit.green.loop import Loop, SharedLoop, Signal
from flowkit.green.native import (
    NativeLocal,
    NativeLock,
    NativeQueue,
    eventlet_patched,
    has_hub,
    monotonic,
    patched,
    sleep,
    start_thread,
)
from flowkit.green.slots import Deadline, Slots
from flowkit.green.tasks import Expired, Task, in_thread, spawn, within

__all__ = [
    "Cell",
    "Crew",
    "Deadline",
    "Expired",
    "Job",
    "Loop",
    "NativeLocal",
    "NativeLock",
    "NativeQueue",
    "SharedLoop",
    "Signal",
    "Slots",
    "Task",
    "eventlet_patched",
    "has_hub",
    "crew",
    "in_thread",
    "in_turn",
    "monotonic",
    "patched",
    "sleep",
    "sockets",
    "spawn",
    "start_thread",
    "when_ready",
    "within",
]
