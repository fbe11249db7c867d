"""``WebSocket``: what users hold of a kept connection, and call ``ws``.

Its connection lives in the event loop of all subscriptions of the process; its handlers run where
the user wants them: in the thread or greenlet that calls ``run``, or in one of its own after
``start``. One handler runs at a time. One that raises is reported to ``on_error`` and passed.

Source: protocol 9, 13.1 (the runner), 13.2 (defects 66 to 79).
"""

from __future__ import annotations

import inspect
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flowkit import green, limits
from flowkit.client.live import commands
from flowkit.client.live.asking import Asked, asked
from flowkit.client.live.inbox import Inbox
from flowkit.client.live.keeper import Keeper, Told, Wishes, key_of
from flowkit.client.live.reader import Reader
from flowkit.client.live.subscription import Handlers, Subscription
from flowkit.client.live.view import LiveView
from flowkit.client.live.waiting import Pending
from flowkit.errors import DeadlineExceeded, FlowKitError, UsageError

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["WebSocket"]
