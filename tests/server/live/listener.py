"""Somebody who listens: a session over a real WebSocket to an application, without a port."""

from __future__ import annotations

import json
import socket
from collections import deque
from contextlib import ExitStack
from typing import Any, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from flowkit.protocol.envelope import Request
from flowkit.server.app import App
from flowkit.server.websocket import serve_pair
from tests.server.visitor import Visitor

__all__ = ["Listener", "new_session"]

_TIMEOUT_S = 10.0


def new_session(who: Visitor, *, hints: bool = False) -> str:
    """The id of a new session."""
    headers = {"x-auth-account": who.account, "x-auth-token": who.token or ""}
    request = Request("POST", ("session",), {"hints": "1"} if hints else {}, headers)
    answer = who.app.handle(request)
    assert answer.status == 201, answer.body
    return str(json.loads(answer.body)["body"]["id"])


class Listener:
    """One connection to a session.

    Args:
        who: whose session it is.
        session_id: the session; a new one by default.
        hints: whether a new session shows types.
    """

    def __init__(self, who: Visitor, session_id: str | None = None, *, hints: bool = False) -> None:
        self.app: App = who.app
        self.id = session_id or new_session(who, hints=hints)
        self.socket = socket.socket(fileno=serve_pair(self.app.live).detach())
        uri = f"ws://inside/session/{self.id}/ws"
        self._end = ExitStack()
        opening = connect(uri, sock=self.socket, compression=None, max_size=None)
        self._ws = self._end.enter_context(opening)
        self._pushed: deque[dict[str, Any]] = deque()
        self._replies: dict[Any, dict[str, Any]] = {}
        self._asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def say(self, message: Any) -> None:
        """Send a message, or a text as it stands."""
        self._ws.send(message if isinstance(message, str) else json.dumps(message))

    def ask(self, kind: str, **said: Any) -> dict[str, Any]:
        """The reply to a command about drops, unless *said* names another object."""
        self._asked += 1
        self.say({"object": "drop", **said, "type": kind, "msgId": self._asked})
        while self._asked not in self._replies:
            self._take(_TIMEOUT_S)
        return self._replies.pop(self._asked)

    def reply(self) -> dict[str, Any]:
        """The next message that is a reply, whatever its ``msgId``."""
        while not self._replies:
            self._take(_TIMEOUT_S)
        return self._replies.pop(next(iter(self._replies)))

    def subscribe(self, **said: Any) -> dict[str, Any]:
        """Begin a subscription, which must succeed; the body of the reply."""
        reply = self.ask("subscribe", **said)
        assert reply["head"]["ok"], reply["head"]
        return reply["body"]

    def next(self, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
        """The next pushed message."""
        while not self._pushed:
            self._take(timeout_s)
        return self._pushed.popleft()

    def take(self, count: int) -> list[dict[str, Any]]:
        """The next pushed messages."""
        return [self.next() for _ in range(count)]

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Pushed messages up to and including the first of that type."""
        found = [self.next()]
        while found[-1]["type"] != kind:
            found.append(self.next())
        return found

    def is_quiet(self, timeout_s: float = 0.1) -> bool:
        """Whether nothing is pushed for a moment."""
        try:
            self._pushed.append(self.next(timeout_s))
        except TimeoutError:
            return True
        return False

    def closed_with(self) -> tuple[int, str]:
        """Code and reason of the end of the connection, which comes soon."""
        with pytest.raises(ConnectionClosed) as closed:
            self._take_all()
        assert closed.value.rcvd is not None, "the connection broke without a close frame"
        return closed.value.rcvd.code, closed.value.rcvd.reason

    def _take_all(self) -> None:
        while True:
            self._take(_TIMEOUT_S)

    def break_off(self) -> None:
        """Lose the connection without a word."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def _take(self, timeout_s: float) -> None:
        message = json.loads(self._ws.recv(timeout_s))
        if "head" in message:
            self._replies[message["head"].get("msgId", f"none{len(self._replies)}")] = message
        else:
            self._pushed.append(message)
