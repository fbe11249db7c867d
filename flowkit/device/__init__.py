"""The device side: what sends readings to a platform, on plain threads and without gevent.

The names are loaded when they are first used, so a script that only keeps readings in an
``Outbox`` loads nothing of the network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowkit.device.link import HttpLink as HttpLink
    from flowkit.device.outbox import Outbox as Outbox
    from flowkit.device.sender import Sender as Sender

_HOME_OF = {
    "HttpLink": "flowkit.device.link",
    "Outbox": "flowkit.device.outbox",
    "Sender": "flowkit.device.sender",
}

__all__ = ["HttpLink", "Outbox", "Sender"]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'flowkit.device' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
