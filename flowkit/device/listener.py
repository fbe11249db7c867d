"""Hears what the platform has for a device: one thread, one session of long polls, some readers.

Each reader follows one Flow from a place that the caller keeps, so nothing is missed while the
device is away, as long as the Flow's history goes back that far; where it does not, the platform
says so with a gap. A poll that fails ends the session, and the next one begins from the places.
A session has the readers whose callers have room, and ends when those are others.

Source: protocol 9.1 (polling), ``positions`` 4 and 6 (readers).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowkit import limits
from flowkit.device import bounds
from flowkit.device.link import Connection, HttpLink
from flowkit.device.pauses import backoff_s
from flowkit.errors import FlowKitError, PlatformError, ProtocolError, TransportError

__all__ = ["Listener", "Reading"]

_log = logging.getLogger(__name__)

_GONE = frozenset({"deleted", "forbidden", "filter", "fault"})


@dataclass(frozen=True, slots=True)
class Reading:
    """One Flow that is followed.

    Attributes:
        path: of the Flow.
        place: where to begin, each time: a position, ``"start"``, or None for now.
        heard: called with each message that has a place or says that something is missing; what it
            raises ends the session, and the message comes again.
        has_room: whether the caller can take more; looked at after each poll.
    """

    path: str
    place: Callable[[], str | None]
    heard: Callable[[Mapping[str, Any]], object]
    has_room: Callable[[], bool] = lambda: True


class Listener:
    """Follows some Flows on a thread of its own.

    Args:
        link: the platform and the credential.
        readings: by the name of the reader.
        begun: called when all readers of a session have begun, before anything is heard.
    """

    def __init__(
        self,
        link: HttpLink,
        readings: Mapping[str, Reading],
        *,
        begun: Callable[[], object] = lambda: None,
    ) -> None:
        self._link = link
        self._readings = readings
        self._begun = begun
        self._connection = link.connection()
        self._ended = threading.Event()
        self._level = 0
        self._followed: list[str] = []
        self._thread = threading.Thread(target=self._run, name="flowkit-listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def look_again(self) -> None:
        """A reader has room again: do not wait for the end of a poll. From any thread."""
        self._connection.cut()

    def close(self, timeout_s: float) -> None:
        """Stop; returns within the time."""
        self._ended.set()
        self._connection.cut()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._session()
                continue
            except (PlatformError, TransportError) as error:
                _log.debug("listening to %s: %s", self._link.name, error)
            except FlowKitError as error:
                _log.warning("what %s tells cannot be taken in: %s", self._link.name, error)
            except Exception:  # noqa: BLE001 - a listener that died would hear nothing any more
                _log.exception("listening to %s failed", self._link.name)
            self._connection.close()
            if self._followed != self._with_room():
                continue  # it was cut for that; nothing is wrong
            self._level += 1
            self._ended.wait(backoff_s(self._level))

    def _session(self) -> None:
        """From a new session to its end, or until the readers that have room are others."""
        connection = self._connection
        followed = self._followed = self._with_room()
        made = connection.ask("POST", ("session",), outside=True)
        address = ("session", str(made.body["id"]), "polling")
        for name in followed:
            self._subscribe(connection, address, name, self._readings[name])
        awaited = set(followed)
        while not self._ended.is_set() and followed == self._with_room():
            for message in self._poll(connection, address):
                self._take(message, awaited)
            if not awaited:
                self._level = 0

    def _with_room(self) -> list[str]:
        """The names of the readers whose callers can take more."""
        return [name for name, reading in self._readings.items() if reading.has_room()]

    def _take(self, message: Mapping[str, Any], awaited: set[str]) -> None:
        """One message of a poll; a reader that has begun is not *awaited* any more."""
        if "head" not in message:
            self._hear(message)
            return
        awaited.discard(_begun(message))
        if not awaited:
            self._begun()

    def _subscribe(
        self, connection: Connection, address: tuple[str, ...], name: str, reading: Reading
    ) -> None:
        asked: dict[str, Any] = {
            "msgId": name,
            "object": "drop",
            "type": "subscribe",
            "path": reading.path,
            "sub": name,
        }
        place = reading.place()
        if place is not None:
            asked["since"] = place
        connection.ask("POST", address, json.dumps(asked).encode(), outside=True)

    def _poll(self, connection: Connection, address: tuple[str, ...]) -> list[Mapping[str, Any]]:
        wait_s = limits.poll_wait_s + bounds.link_timeout_s
        said = connection.ask("GET", address, timeout_s=wait_s, outside=True).body
        if not isinstance(said, list):
            raise ProtocolError("the answer to a poll is no list of messages")
        return said

    def _hear(self, message: Mapping[str, Any]) -> None:
        reading = self._readings.get(str(message.get("sub")))
        if reading is None:
            return
        if message.get("type") == "end":
            raise ProtocolError(f"{reading.path} ended: {message.get('reason')}")
        reading.heard(message)


def _begun(reply: Mapping[str, Any]) -> str:
    """The reader that a reply is about.

    Raises:
        ProtocolError: it could not begin.
    """
    head = reply["head"]
    if not head.get("ok"):
        raise ProtocolError(f"reader {head.get('msgId')}: {'; '.join(head.get('errors') or ())}")
    return str(head.get("msgId"))
