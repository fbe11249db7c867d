"""The device side: what sends readings to a platform, on plain threads and without gevent.

The names are loaded when they are first used, so a script that only keeps readings in an
``Outbox`` loads nothing of the network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowkit.device.device import DeviceClient as DeviceClient
    from flowkit.device.inbound import InboundMessage as InboundMessage
    from flowkit.device.link import HttpLink as HttpLink
    from flowkit.device.messages import Compression as Compression
    from flowkit.device.messages import StreamSender as StreamSender
    from flowkit.device.outbox import Outbox as Outbox
    from flowkit.device.properties import DesiredProperties as DesiredProperties
    from flowkit.device.properties import ReportedProperties as ReportedProperties
    from flowkit.device.registration import ProvisioningOperation as ProvisioningOperation
    from flowkit.device.sender import Sender as Sender
    from flowkit.device.streamer import Streamer as Streamer

_HOME_OF = {
    "Compression": "flowkit.device.messages",
    "DesiredProperties": "flowkit.device.properties",
    "DeviceClient": "flowkit.device.device",
    "HttpLink": "flowkit.device.link",
    "InboundMessage": "flowkit.device.inbound",
    "Outbox": "flowkit.device.outbox",
    "ProvisioningOperation": "flowkit.device.registration",
    "ReportedProperties": "flowkit.device.properties",
    "Sender": "flowkit.device.sender",
    "StreamSender": "flowkit.device.messages",
    "Streamer": "flowkit.device.streamer",
}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'flowkit.device' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
