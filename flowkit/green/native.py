"""What belongs to the operating system's threads, also where gevent has patched the process."""

from __future__ import annotations

import _queue
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey
from gevent._hub_local import get_hub_if_exists

__all__ = [
    "NativeLocal",
    "NativeLock",
    "NativeQueue",
    "eventlet_patched",
    "has_hub",
    "monotonic",
    "patched",
    "sleep",
    "start_thread",
]

_log = logging.getLogger(__name__)


def eventlet_patched() -> bool:
    """Whether eventlet has patched this process's sockets."""
    patcher = sys.modules.get("eventlet.patcher")
    return bool(patcher and patcher.is_monkey_patched("socket"))


def _original(module: str, name: str) -> Any:
    if eventlet_patched():
        from flowkit.green import under_eventlet

        return under_eventlet.original(module, name)
    return monkey.get_original(module, name)


NativeLock: Callable[[], Any] = _original("_thread", "allocate_lock")
"""Makes a lock of native threads, also in a patched process. Hold it for an instant only."""

NativeLocal: Callable[[], Any] = _original("_thread", "_local")
"""Makes an object whose attributes each native thread has for itself, whatever greenlet it runs."""

NativeQueue = _queue.SimpleQueue
"""A queue between threads whose ``get`` blocks the thread, also in a patched process."""

_start_new_thread = _original("_thread", "start_new_thread")
_native_sleep = _original("time", "sleep")

monotonic = time.monotonic
"""Seconds of a clock that never goes back."""


def has_hub() -> bool:
    """Whether the calling thread has a gevent hub, so that waiting must let its greenlets run.

    A thread has one from its first use of gevent on. A main thread that never touched gevent has
    none, even if the process is patched: nothing else could run there meanwhile.
    """
    return get_hub_if_exists() is not None


def patched() -> frozenset[str]:
    """Names of the standard modules that gevent or eventlet has patched: ``{"socket", "ssl"}``."""
    ours = {name for name in monkey.saved if monkey.is_module_patched(name)}
    return frozenset(ours | {"socket"}) if eventlet_patched() else frozenset(ours)


def gevent_sockets() -> bool:
    """Whether a socket made now in the calling thread should be gevent's."""
    return has_hub() or monkey.is_module_patched("socket")


def sleep(seconds: float) -> None:
    """Wait *seconds*: cooperatively in a thread with a hub, else by blocking the thread."""
    if has_hub():
        gevent.sleep(seconds)
    elif eventlet_patched():
        time.sleep(seconds)  # eventlet's
    else:
        _native_sleep(seconds)


def start_thread(function: Callable[..., object], *args: object, name: str | None = None) -> None:
    """Run ``function(*args)`` in a native daemon thread, also in a patched process.

    An error that the function lets out is logged with *name* and ends the thread.
    """

    def run() -> None:
        trace = threading.gettrace()  # as threading does, so that debuggers and coverage see it
        if trace is not None:
            sys.settrace(trace)
        try:
            function(*args)
        except SystemExit:
            pass
        except BaseException:  # noqa: BLE001 - the last frame of a thread: nobody else can report it
            _log.exception("thread %s ended with an error", name or function)

    _start_new_thread(run, ())
