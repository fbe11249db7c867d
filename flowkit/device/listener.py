"""Hears what the platform has for a device: one thread, one session of long polls, some readers.

Each reader follows one Flow from a place that the caller keeps, so nothing is missed while the
device is away, as long as the Flow's history goes back that far; where it does not, the platform
says so with a gap. A poll that fails ends the session, and the next one begins from the places.

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
from flowkit.errors import FlowKitError, ProtocolError

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
    """

    path: str
    place: Callable[[], str | None]
    heard: Callable[[Mapping[str, Any]], object]


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
        self._thread = threading.Thread(target=self._run, name="flowkit-listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

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
            except FlowKitError as error:
                _log.debug("listening to %s: %s", self._link.name, error)
            except Exception:  # noqa: BLE001 - a listener that died would hear nothing any more
                _log.exception("listening to %s failed", self._link.name)
            self._connection.close()
            self._level += 1
            self._ended.wait(backoff_s(self._level))

    def _session(self) -> None:
        """From a new session to its end."""
        connection = self._connection
        made = connection.ask("POST", ("session",), outside=True)
        address = ("session", str(made.body["id"]), "polling")
        for name, reading in self._readings.items():
            self._subscribe(connection, address, name, reading)
        begun: set[str] = set()
        while not self._ended.is_set():
            for message in self._poll(connection, address):
                self._take(message, begun)
            if begun == set(self._readings):
                self._level = 0

    def _take(self, message: Mapping[str, Any], begun: set[str]) -> None:
        """One message of a poll; the names of readers that have begun are added to *begun*."""
        if "head" not in message:
            self._hear(message)
            return
        begun.add(_begun(message))
        if begun == set(self._readings):
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
