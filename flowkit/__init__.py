"""flowkit: streams of device data, asked for in Python.

The public names are loaded when they are first used: ``import flowkit`` alone imports neither
gevent nor requests nor a WebSocket library.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flowkit._version import __version__

if TYPE_CHECKING:
    from flowkit.client.api import API as API
    from flowkit.client.api import connect as connect
    from flowkit.client.calls import Result as Result
    from flowkit.client.changes import M as M
    from flowkit.client.changes import P as P
    from flowkit.client.credentials import Token as Token
    from flowkit.client.credentials import save_profile as save_profile
    from flowkit.client.encoding import dumps as dumps
    from flowkit.client.encoding import loads as loads
    from flowkit.client.live.runner import WebSocket as WebSocket
    from flowkit.client.live.subscription import Subscription as Subscription
    from flowkit.client.live.values import Change as Change
    from flowkit.client.live.values import Gap as Gap
    from flowkit.client.live.values import GapWarning as GapWarning
    from flowkit.client.live.values import Shift as Shift
    from flowkit.client.live.view import LiveView as LiveView
    from flowkit.client.options import defaults as defaults
    from flowkit.client.thunk import GreenThunk as GreenThunk
    from flowkit.device.device import DeviceClient as DeviceClient
    from flowkit.device.streamer import Streamer as Streamer
    from flowkit.embedded import embedded as embedded
    from flowkit.errors import BadRequest as BadRequest
    from flowkit.errors import Cancelled as Cancelled
    from flowkit.errors import Conflict as Conflict
    from flowkit.errors import ConnectError as ConnectError
    from flowkit.errors import ConnectionLost as ConnectionLost
    from flowkit.errors import DeadlineExceeded as DeadlineExceeded
    from flowkit.errors import FilterError as FilterError
    from flowkit.errors import FilterSyntaxError as FilterSyntaxError
    from flowkit.errors import FlowKitError as FlowKitError
    from flowkit.errors import Forbidden as Forbidden
    from flowkit.errors import LimitError as LimitError
    from flowkit.errors import NotFound as NotFound
    from flowkit.errors import OutboxError as OutboxError
    from flowkit.errors import OutboxFull as OutboxFull
    from flowkit.errors import PlatformError as PlatformError
    from flowkit.errors import ProtocolError as ProtocolError
    from flowkit.errors import ServerError as ServerError
    from flowkit.errors import SettingsError as SettingsError
    from flowkit.errors import TooManyRequests as TooManyRequests
    from flowkit.errors import TransportError as TransportError
    from flowkit.errors import UsageError as UsageError
    from flowkit.protocol.envelope import Request as Request
    from flowkit.protocol.envelope import Response as Response
    from flowkit.query.build import AGE as AGE
    from flowkit.query.build import EXISTS as EXISTS
    from flowkit.query.build import HAS as HAS
    from flowkit.query.build import MATCHES as MATCHES
    from flowkit.query.build import NOT as NOT
    from flowkit.query.build import all_of as all_of
    from flowkit.query.build import any_of as any_of
    from flowkit.query.build import mem as mem
    from flowkit.query.nodes import Filter as Filter

_HOMES = {
    "flowkit.client.api": ("API", "connect"),
    "flowkit.client.calls": ("Result",),
    "flowkit.client.changes": ("M", "P"),
    "flowkit.client.credentials": ("Token", "save_profile"),
    "flowkit.client.encoding": ("dumps", "loads"),
    "flowkit.client.live.runner": ("WebSocket",),
    "flowkit.client.live.subscription": ("Subscription",),
    "flowkit.client.live.values": ("Change", "Gap", "GapWarning", "Shift"),
    "flowkit.client.live.view": ("LiveView",),
    "flowkit.client.options": ("defaults",),
    "flowkit.client.thunk": ("GreenThunk",),
    "flowkit.device.device": ("DeviceClient",),
    "flowkit.device.streamer": ("Streamer",),
    "flowkit.embedded": ("embedded",),
    "flowkit.errors": (
        "BadRequest",
        "Cancelled",
        "Conflict",
        "ConnectError",
        "ConnectionLost",
        "DeadlineExceeded",
        "FilterError",
        "FilterSyntaxError",
        "FlowKitError",
        "Forbidden",
        "LimitError",
        "NotFound",
        "OutboxError",
        "OutboxFull",
        "PlatformError",
        "ProtocolError",
        "ServerError",
        "SettingsError",
        "TooManyRequests",
        "TransportError",
        "UsageError",
    ),
    "flowkit.protocol.envelope": ("Request", "Response"),
    "flowkit.query.build": (
        "AGE",
        "EXISTS",
        "HAS",
        "MATCHES",
        "NOT",
        "all_of",
        "any_of",
        "mem",
    ),
    "flowkit.query.nodes": ("Filter",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'flowkit' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


class _Package(ModuleType):
    """This package: ``flowkit.embedded`` is the function, also after its module was imported."""

    @property
    def embedded(self) -> Any:
        return import_module("flowkit.embedded").embedded

    @embedded.setter
    def embedded(self, module: object) -> None:
        """Importing the module of the same name would put that here; the function stays."""


sys.modules[__name__].__class__ = _Package
