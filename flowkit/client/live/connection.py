"""One WebSocket connection on the event loop: one greenlet reads, everybody else only sends.

``dial`` makes it: a session by the API's own transport and the credentials of that moment, a socket
by the same transport, the handshake. A session is never used twice: after a loss the flowkit client
makes a new one and subscribes again from its places.

Nothing here knows what the messages mean.

Source: protocol 9.1 (session), 9.5, 9.6.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flowkit import limits
from flowkit.client.calls import Call, Door
from flowkit.client.live.frames import Frames
from flowkit.errors import ConnectionLost, ProtocolError, TransportError, UsageError
from flowkit.green import Deadline, Loop, eventlet_patched, in_thread, sockets

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["Connection", "dial", "is_passing"]

_READ_BYTES = 256 * 1024
_SEND_BYTES = 64 * 1024


class Connection:
    """An open connection. All of it runs in its loop.

    Args:
        connected: a socket of the loop.
        frames: the protocol on it.
        loop: whose it is.

    Attributes:
        frames: has ``code`` and ``reason`` once the server has closed.
        outgoing_bytes: what waits to be sent.
    """

    def __init__(self, connected: Any, frames: Frames, loop: Loop) -> None:
        self.frames = frames
        self._socket = connected
        self._loop = loop
        self._outgoing = bytearray()
        self._is_sending = False
        self._is_closed = False
        self._first: list[bytes] = []

    def shake(self, headers: dict[str, str], deadline: Deadline) -> None:
        """The handshake.

        Raises:
            PlatformError, ProtocolError, ConnectionLost: as ``Frames.welcome``.
            DeadlineExceeded: not in time.
        """
        self.send(self.frames.hello(headers))
        found: list[bytes] | None = None
        while found is None:
            came = self._receive(deadline.left_s() or limits.connect_timeout_s)
            deadline.left_s()
            if came is not None:
                found = self.frames.welcome(came)
        self._first = found

    def read(self) -> list[bytes]:
        """The messages that have come, perhaps none of them complete; waits for some bytes.

        Raises:
            ConnectionLost: the connection has ended; ``frames.code`` says how, if it was said.
        """
        if self._first:
            first, self._first = self._first, []
            return first
        came = None if self.frames.is_over else self._receive(None)
        found = self.frames.messages(came) if came else []
        said = self.frames.to_send()
        if said:
            self.send(said)
        if not found and (not came or self.frames.is_over):
            raise ConnectionLost(self._farewell())
        return found

    def _receive(self, timeout_s: float | None) -> bytes | None:
        try:
            return sockets.receive(self._socket, _READ_BYTES, timeout_s)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConnectionLost(f"the connection broke: {reason}") from error

    def _farewell(self) -> str:
        code, reason = self.frames.code, self.frames.reason
        if code is None:
            return "the server ended the connection without a word"
        return f"the server closed the connection with code {code}" + (reason and f": {reason}")

    @property
    def outgoing_bytes(self) -> int:
        """Bytes that the other end has not taken yet."""
        return len(self._outgoing)

    def send(self, data: bytes) -> None:
        """Send *data*, soon; never waits."""
        self._outgoing += data
        if not self._is_sending and not self._is_closed:
            self._is_sending = True
            self._loop.spawn(self._send_all)

    def _send_all(self) -> None:
        try:
            while self._outgoing and not self._is_closed:
                sent = self._send_some(bytes(self._outgoing[:_SEND_BYTES]))
                del self._outgoing[:sent]
        except OSError:
            sockets.shut(self._socket)  # whoever reads finds the end, and says so
        finally:
            self._is_sending = False

    def _send_some(self, part: bytes) -> int:
        """As much of *part* as goes; 0 if the other end takes nothing for a while."""
        try:
            sent: int = self._socket.send(part)
        except TimeoutError:  # that of the handshake
            return 0
        return sent

    def hang_up(self, code: int) -> None:
        """Say that it ends here. The reader then finds the other end's answer, or its end."""
        self.send(self.frames.close(code))

    def cut(self) -> None:
        """End the traffic: the reader finds that it is over."""
        sockets.shut(self._socket)

    def close(self) -> None:
        """Close the socket, whatever was still to be said."""
        self._is_closed = True
        self._outgoing.clear()
        sockets.shut(self._socket)
        with suppress(OSError):
            self._socket.close()

    def let_go(self) -> None:
        """In a forked child: close this process's handle only."""
        self._is_closed = True
        sockets.let_go(self._socket)


def dial(api: API, loop: Loop, *, hints: bool | None, timeout_s: float) -> Connection:
    """A session of *api*'s account and an open connection to it. To be called in *loop*.

    Raises:
        TransportError: nobody answers in time, or not with the protocol.
        PlatformError: the server refuses; ``Forbidden`` if it is the credential.
        UsageError: this transport cannot carry subscriptions, or it is closed.
    """
    deadline = Deadline(timeout_s, "connecting")
    door = api.socket_door()
    session_id = _session(api, door, hints, deadline)
    connected, prefix, headers = _open(door.transport, deadline)
    host = headers.pop("host", "localhost")
    frames = Frames(host, f"{prefix}/session/{quote(session_id, safe='')}/ws")
    connection = Connection(connected, frames, loop)
    try:
        connection.shake(headers, deadline)
    except BaseException:
        connection.close()
        raise
    return connection


def _session(api: API, door: Door, hints: bool | None, deadline: Deadline) -> str:
    """The id of a new session."""
    call = Call(
        "POST",
        ("session",),
        {} if hints is None else {"hints": hints},
        is_bare=True,
        is_repeatable=False,
        timeout_s=deadline.left_s(),
    )
    creds = api.creds
    if hasattr(door.transport, "drop_idle"):
        door.transport.drop_idle()
    if eventlet_patched():  # its hub cannot run in this thread
        result = in_thread(door.send, call, creds).get(deadline.left_s())
    else:
        result = door.send(call, creds)
    made = result.body.get("id") if isinstance(result.body, dict) else None
    if not isinstance(made, str) or not made:
        raise ProtocolError("the answer to POST /session names no session")
    return made


def _open(transport: Any, deadline: Deadline) -> tuple[Any, str, dict[str, str]]:
    """A socket of the calling loop; what stands before the path; headers for the handshake."""
    opened = getattr(transport, "open_socket", None)
    if opened is None:
        raise UsageError(
            f"a {type(transport).__name__} cannot carry subscriptions: it has no open_socket()",
            hint="give API(…, ws_host=…), or the transport such a method",
        )
    found = opened(deadline)
    if isinstance(found, tuple):
        return found
    return sockets.adopt(found), "", {}


def is_passing(error: BaseException) -> bool:
    """Whether connecting again may succeed where *error* came up.

    What the server says of the credential (401, 403) and of the request itself (400 …) stands; that
    something was not found, is too much or is down passes.
    """
    status = getattr(error, "status", None)
    if isinstance(error, TransportError) or status is None:
        return isinstance(error, TransportError)
    return status >= 500 or status in _PASSING


_PASSING = frozenset({404, 408, 425, 429})
