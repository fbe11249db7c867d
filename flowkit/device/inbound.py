"""Messages from the platform to a device: kept in its file until the application acknowledges them.

A message is a drop in the Flow of the device's commands. It is written to the file together with
the place behind it, so a crash neither loses nor doubles one; it is handed out again after every
start until it was acknowledged. When too many wait, no more are fetched: they are as safe where
they are, and the file does not grow without end under an application that takes none.

Source: ``docs/reference/devices.rst`` (messages to a device), ``positions`` 4.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowkit.device import bounds
from flowkit.errors import UsageError

if TYPE_CHECKING:
    from flowkit.device.outbox import Outbox

__all__ = ["Inbound", "InboundMessage"]

_log = logging.getLogger(__name__)

_PLACE = "inbound place"
_KEPT = "inbound "


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message from the platform.

    Attributes:
        id: of the drop that it is.
        payload: its elements.
        sent_ms: when the platform took it, in ms since 1970 by the platform's clock.
    """

    id: str
    payload: Mapping[str, Any]
    sent_ms: int
    _inbound: Inbound = field(repr=False, compare=False)
    _number: int = field(repr=False, compare=False)

    def ack(self) -> None:
        """The application has dealt with it: it is never handed out again; on disk on return."""
        self._inbound.ack(self._number)


class Inbound:
    """The messages that wait for the application; every method may be called from any thread.

    Args:
        outbox: the device's file.

    Attributes:
        on_room: called once more messages are to be fetched again; must not wait.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.on_room: Callable[[], object] = lambda: None
        self._outbox = outbox
        self._turn = Condition()
        self._closed = False
        self._waiting: deque[int] = deque()
        self.read()

    def read(self) -> None:
        """Look into the file, at the start and when it became another device's."""
        sizes = self._outbox.kept_sizes(_KEPT)
        place = self._outbox.kept(_PLACE) or {}
        sizes.pop(_PLACE, None)
        with self._turn:
            self._sizes = {int(name.removeprefix(_KEPT)): size for name, size in sizes.items()}
            self._bytes = sum(self._sizes.values())
            self._waiting = deque(sorted(self._sizes))
            self._next = int(place.get("next", 1))
            self._place: str | None = place.get("position")
            self._is_full = False
            self._look_at_room()

    @property
    def place(self) -> str:
        """Where to go on: what came before is in the file."""
        return self._place or "start"

    @property
    def has_room(self) -> bool:
        """Whether more messages are to be fetched."""
        return not self._is_full

    def _look_at_room(self) -> None:
        """Full at the bound, then until half of it is free: no session for each ``ack``."""
        share = 0.5 if self._is_full else 1.0
        self._is_full = (
            len(self._sizes) >= bounds.inbound_messages_max * share
            or self._bytes >= bounds.inbound_bytes_max * share
        )

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take in a message of the reader of the device's commands.

        Raises:
            OutboxError: it could not be written, or would fill the disk; the platform keeps it.
        """
        position = message.get("position")
        if message.get("type") == "gap":
            _log.warning("messages to this device are missing: %s", message.get("reason"))
        if not isinstance(position, str):
            return
        number = self._next
        values: dict[str, Any] = {}
        drop = message.get("value")
        if message.get("type") == "message" and isinstance(drop, dict):
            values[f"{_KEPT}{number}"] = {
                "id": drop.get("id"),
                "elems": drop.get("elems") or {},
                "at": drop.get("creationDate") or 0,
            }
        values[_PLACE] = {"position": position, "next": number + len(values)}
        sizes = self._outbox.keep_all(values, spares_disk=True)
        with self._turn:
            self._place = position
            if len(values) > 1:
                self._next = number + 1
                self._sizes[number] = sizes[f"{_KEPT}{number}"]
                self._bytes += self._sizes[number]
                self._waiting.append(number)
                self._look_at_room()
                self._turn.notify()

    def receive(self, timeout_s: float | None) -> InboundMessage | None:
        """The next message that was not handed out in this run; None when the time is up.

        Raises:
            UsageError: the client is closed.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self._turn:
            while not self._waiting:
                if self._closed:
                    raise UsageError("the device client is closed")
                left_s = 1.0 if deadline is None else min(1.0, deadline - monotonic())
                if left_s <= 0:
                    return None
                self._turn.wait(left_s)
            number = self._waiting.popleft()
        said = self._outbox.kept(f"{_KEPT}{number}")
        return InboundMessage(said["id"], said["elems"], said["at"], self, number)

    def ack(self, number: int) -> None:
        """Forget a message."""
        self._outbox.keep_all({f"{_KEPT}{number}": None})
        with self._turn:
            was_full = self._is_full
            self._bytes -= self._sizes.pop(number, 0)
            self._look_at_room()
            has_come = was_full and not self._is_full
        if has_come:
            self.on_room()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
