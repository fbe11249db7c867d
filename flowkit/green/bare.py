"""gevent, imported with the system's own threads in view, also where eventlet has patched them.

gevent keeps its hubs by thread. Imported after eventlet's patching it would keep them by greenlet,
and no event loop could run beside eventlet's, in a thread of its own, as ``Loop`` does.

Imported before everything else of this room. It can do nothing if somebody else imported gevent
first.
"""

from __future__ import annotations

import _thread
import sys
from importlib import import_module

__all__: list[str] = []


def _import_gevent() -> None:
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or "gevent" in sys.modules or not patcher.is_monkey_patched("thread"):
        return
    real = patcher.original("_thread")
    seen = {name: value for name, value in vars(_thread).items() if hasattr(real, name)}
    changed = {name: value for name, value in seen.items() if value is not getattr(real, name)}
    try:
        for name in changed:
            setattr(_thread, name, getattr(real, name))
        for name in ("gevent", "gevent.event", "gevent.hub", "gevent.socket", "gevent.ssl"):
            import_module(name)
    finally:
        for name, value in changed.items():
            setattr(_thread, name, value)


_import_gevent()
