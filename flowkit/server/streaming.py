"""A session as one long answer: a chunk for each message, for clients without WebSockets.

What such a client has to say it posts to the polling address. Signs of life are empty lines; that
the kernel takes them is all that can be heard of the client.

Source: protocol 9.1 (streaming).
"""

from __future__ import annotations

from typing import Any

from flowkit.errors import NotFound, PlatformError
from flowkit.green import sleep, sockets
from flowkit.server import message
from flowkit.server.answers import HEADERS, refusal
from flowkit.server.live.frames import payload
from flowkit.server.live.live import Live
from flowkit.server.message import Head
from flowkit.server.outlet import Outlet

__all__ = ["take_over"]

_RECV_BYTES = 4_096
_LAST_CHUNK = b"0\r\n\r\n"


def take_over(live: Live, connected: Any, head: Head, _rest: bytes) -> bool:
    """Take over a connection that asks for the stream of a session; returns at once.

    Returns:
        whether it was taken over; False for every other request.
    """
    parts = head.target.partition("?")[0].split("/")
    if head.method != "GET" or parts[:2] != ["", "session"] or parts[3:] != ["streaming"]:
        return False
    live.loop.spawn(_run, live, sockets.taken(connected), parts[2])
    return True


def _run(live: Live, connected: Any, session_id: str) -> None:
    sock = sockets.adopt(connected)
    try:
        _Stream(live, sock, session_id).run()
    except OSError:
        pass  # the client went away
    finally:
        sock.close()


class _Stream:
    """One long answer; a ``live.sessions.Line``."""

    ends_readers = True

    def __init__(self, live: Live, sock: Any, session_id: str) -> None:
        self._live = live
        self._sock = sock
        self._session_id = session_id
        self._outlet: Outlet | None = None

    def run(self) -> None:
        """Carry the session until the client goes."""
        try:
            session = self._live.session(self._session_id)
        except NotFound as error:
            self._sock.sendall(_refused(error))
            return
        headers = {**HEADERS, "transfer-encoding": "chunked", "connection": "close"}
        self._outlet = Outlet(self._sock, session.flush)
        self._outlet.send(message.render_head(200, headers.items()))
        self._live.lines.add(self)
        session.connect(self)
        self._sock.settimeout(None)
        try:
            while self._sock.recv(_RECV_BYTES):  # nothing is expected; its end is
                session.heard()
                sleep(0)  # who sends without a pause holds nobody up
        finally:
            session.lose(self)
            self._outlet.close()
            self._live.lines.discard(self)

    @property
    def is_blocked(self) -> bool:
        """Whether the kernel takes nothing at the moment."""
        return self._outlet is None or self._outlet.is_blocked

    def send(self, frames: list[bytes]) -> None:
        """Send each message as a chunk."""
        if self._outlet is not None:
            self._outlet.send(b"".join(_chunk(payload(frame) + b"\n") for frame in frames))

    def pulse(self) -> None:
        """Send an empty line; a client that is gone does not take it."""
        if self._outlet is not None and not self._outlet.is_blocked:
            self._outlet.send(_chunk(b"\n"))
            self._live.session(self._session_id).heard()

    def close(self, _code: int, _reason: str) -> None:
        """End the answer in order."""
        if self._outlet is not None:
            self._outlet.send(_LAST_CHUNK)
            self._outlet.cut_later()

    def cut(self) -> None:
        """End the connection at once."""
        if self._outlet is not None:
            self._outlet.cut()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _refused(error: PlatformError) -> bytes:
    answer = refusal(error)
    headers = {**answer.headers, "content-length": str(len(answer.body)), "connection": "close"}
    return message.render_head(answer.status, headers.items()) + answer.body
