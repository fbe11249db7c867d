"""A connection that carries readers, in the hands of a test: it reads as much as it is told to.

Plain blocking sockets of the standard library and the sans-I/O layer of ``websockets``; nothing of
flowkit's client. Whatever has not been read when the connection is cut is lost, as in life.

Source: protocol 9.1, 9.2, ``positions`` 6.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.together.feeds.checker import Asked, Heard, Transcript

__all__ = ["Connection", "Door", "Reader", "Refused"]

_TIMEOUT_S = 20.0
_RECEIVE_BYTES = 4_096


class Refused(Exception):
    """The server did not take the session, the connection, or closed it."""


@dataclass(slots=True)
class Door:
    """Where a server answers, and to whom.

    Attributes:
        url: its address.
        account, secret: the credential.
        era: which opening of the store it is.
    """

    url: str
    account: str
    secret: str
    era: int

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


@dataclass(slots=True)
class Reader:
    """One subscription for the life of a test, over any number of connections.

    Attributes:
        asked: what it is, for the checker.
        filter: the same filter as text.
        where: ``{"path": …}`` or ``{"flowId": …}``.
        first_since: what it sends at its first subscribe.
        place: the position of the last message that had one.
        is_over: whether the server has ended it.
        is_there: whether the present connection carries it.
        is_in_snapshot: whether a snapshot has begun and not ended.
        counted: entries of its transcript that the world has counted.
    """

    asked: Asked
    filter: str
    where: dict[str, str]
    first_since: str | None = None
    place: str | None = None
    is_over: bool = False
    is_there: bool = False
    is_in_snapshot: bool = False
    counted: int = 0
    transcript: Transcript = field(init=False)

    def __post_init__(self) -> None:
        self.transcript = Transcript(self.asked)

    @property
    def is_settled(self) -> bool:
        """Whether it has its subscription and a place in it."""
        return self.is_there and self.place is not None and not self.is_in_snapshot

    @property
    def since(self) -> str | None:
        """What it sends along."""
        return self.place or self.first_since

    def message(self, msg_id: int) -> dict[str, Any]:
        """Its ``subscribe``."""
        asked = self.asked
        said: dict[str, Any] = {"msgId": msg_id, "object": "drop", "type": "subscribe"}
        said |= {**self.where, "sub": asked.name, "slow": asked.slow}
        if self.filter:
            said["filter"] = self.filter
        if asked.live:
            said["live"] = True
        else:
            said["changes"] = sorted(asked.changes)
        return said | ({"since": self.since} if self.since else {})

    def hear(self, era: int, said: dict[str, Any], *, since: str | None = None) -> None:
        """A message, or the reply of a ``subscribe`` that was sent with *since*."""
        is_reply = "mode" in said
        self.transcript.heard.append(Heard(era, said, since, is_reply))
        if said.get("type") == "snapshot":
            self.is_in_snapshot = said["state"] == "begin"
        if is_reply:
            self.is_there, self.is_over, self.is_in_snapshot = True, False, False
            if self.place is None and not self.asked.live:
                self.place = said["position"]
        elif "position" in said:
            self.place = said["position"]
        if said.get("type") == "end":
            self.is_over, self.is_there = True, False
            if self.asked.live:  # what it held is gone, and with it the place to go on from
                self.place = None


class Connection:
    """One connection of one session, with some readers.

    Args:
        door: the server.
        readers: who subscribes over it.
        receive_bytes: how much its kernel holds for it; small makes it a slow reader.

    Attributes:
        session_id: of its session.
        plain: the texts of plain pushes, as they came.
        replies: replies to what ``say`` asked for.
        close_code: why the server closed it, None while it has not.

    Raises:
        Refused: the server does not take it.
        OSError: the server is not there.
    """

    def __init__(self, door: Door, readers: list[Reader], *, receive_bytes: int = 0) -> None:
        self._door = door
        self._readers = {reader.asked.name: reader for reader in readers}
        self._asked: dict[int, tuple[Reader, str | None]] = {}
        self._count = 0
        self.plain: list[str] = []
        self.replies: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.session_id = session_id = _new_session(door)
        host, port = door.host.split(":")
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(_TIMEOUT_S)
        try:
            self._socket.connect((host, int(port)))
            uri = parse_uri(f"ws://{door.host}/session/{session_id}/ws")
            self._protocol = ClientProtocol(uri, max_size=None)
            self._shake_hands()
        except BaseException:
            self._socket.close()
            raise

    def _shake_hands(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        self._send()
        while True:
            self._receive(_RECEIVE_BYTES)
            events = self._protocol.events_received()
            if events:
                break
        answer, *rest = events
        if not isinstance(answer, Response) or answer.status_code != 101:
            raise Refused(str(answer))
        self._take(rest)

    # -- what the test does with it

    def say(self, message: dict[str, Any]) -> None:
        """Send a message of any kind."""
        self._protocol.send_text(json.dumps(message).encode())
        self._send()

    def subscribe(self, reader: Reader) -> None:
        """Ask for a reader's subscription, from its place; the reply comes with the rest."""
        self._count += 1
        self._asked[self._count] = reader, reader.since
        self.say(reader.message(self._count))

    def has_asked(self, reader: Reader) -> bool:
        """Whether the reply to a reader's ``subscribe`` is still to come."""
        return any(asked is reader for asked, _ in self._asked.values())

    def read(self, messages_max: int, timeout_s: float = 0.0) -> int:
        """Read at most about that many messages of what is there; how many there were.

        Raises:
            Refused: the server has closed the connection.
            OSError: it broke.
        """
        found = 0
        while found < messages_max:
            self._socket.settimeout(timeout_s or 0.000001)
            try:
                self._receive(_RECEIVE_BYTES)
            except (TimeoutError, BlockingIOError):
                break
            finally:
                self._socket.settimeout(_TIMEOUT_S)
            found += self._take(self._protocol.events_received())
            self._send()
        return found

    def cut(self, *, reset: bool = False) -> None:
        """End it without a word; with *reset* by RST, so that nothing of it arrives either."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()
        for reader in self._readers.values():
            reader.is_there = False

    # -- inside

    def _send(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)

    def _receive(self, size: int) -> None:
        data = self._socket.recv(size)
        if not data:
            self._protocol.receive_eof()
            raise Refused(f"closed with {self._protocol.close_code}")
        self._protocol.receive_data(data)

    def _take(self, events: list[Any]) -> int:
        count = 0
        for event in events:
            assert isinstance(event, Frame)
            if event.opcode is Opcode.TEXT:
                assert event.fin
                self._hear(bytes(event.data))
                count += 1
            elif event.opcode is Opcode.CLOSE:
                self.close_code = struct.unpack("!H", bytes(event.data[:2]))[0]
                raise Refused(f"closed with {self.close_code}")
        return count

    def _hear(self, text: bytes) -> None:
        said = json.loads(text)
        head = said.get("head")
        if head is not None:
            self._hear_reply(head, said)
        elif "sub" in said:
            self._readers[said["sub"]].hear(self._door.era, said)
        else:
            self.plain.append(text.decode())

    def _hear_reply(self, head: dict[str, Any], said: dict[str, Any]) -> None:
        reader, since = self._asked.pop(head.get("msgId"), (None, None))
        if reader is None:
            self.replies.append(said)
        elif head["ok"]:
            reader.hear(self._door.era, said["body"], since=since)
        elif head["status"] != 404:
            raise Refused(str(said))


def _new_session(door: Door) -> str:
    connection = http.client.HTTPConnection(door.host, timeout=_TIMEOUT_S)
    try:
        headers = {"X-Auth-Account": door.account, "X-Auth-Token": door.secret}
        connection.request("POST", "/session", b"", headers)
        answer = connection.getresponse()
        envelope = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != 201:
        raise Refused(str(envelope))
    return str(envelope["body"]["id"])
