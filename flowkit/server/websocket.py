"""The WebSocket shell: a socket with an upgrade to a session, and back.

The library ``websockets`` reads and checks what the client sends and makes the frames of control;
pushes and replies are frames already (``live/frames.py``). One greenlet reads, one writes what the
kernel refused at first; both on the loop of the sessions.

Source: protocol 9.1 (handshake), 9.2, 9.5 (heartbeat), 9.6 (close codes); RFC 6455.
"""

from __future__ import annotations

import logging
from socket import SHUT_WR
from typing import Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Upgrade
from websockets.protocol import State
from websockets.server import ServerProtocol

from flowkit import limits
from flowkit.errors import NotFound
from flowkit.green import Slots, monotonic, sleep, sockets, spawn
from flowkit.protocol.session import FAULT, NORMAL
from flowkit.server import message
from flowkit.server.live.commands import IN_ORDER, Misread, read_command, work_off
from flowkit.server.live.live import Live
from flowkit.server.live.sessions import LiveSession
from flowkit.server.message import Head, Refused
from flowkit.server.outlet import Outlet

__all__ = ["serve_pair", "take_over"]

_log = logging.getLogger(__name__)

_RECV_BYTES = 16 * 1024
_TURN_LOOK_S = 1.0
_PONG = b"\x8a"
_TARGET = "/session/"


def take_over(live: Live, connected: Any, head: Head, rest: bytes) -> bool:
    """Take over a connection whose client wants a WebSocket; returns at once.

    Args:
        live: the sessions.
        connected: the socket; if it is taken over, it belongs to the loop of *live*.
        head: the request.
        rest: what was read behind it.

    Returns:
        whether it was taken over; False for every other request.
    """
    if head.method != "GET" or head.headers.get("upgrade", "").lower() != "websocket":
        return False
    live.loop.spawn(_run, live, sockets.taken(connected), head, rest)
    return True


def serve_pair(live: Live) -> Any:
    """A socket of this process that the loop of *live* answers, as it would one over TCP."""
    ours, theirs = sockets.pair()
    live.loop.spawn(_await_head, live, ours)
    return theirs


def _await_head(live: Live, connected: Any) -> None:
    """Read the upgrade from a connection of this process, then serve it."""
    sock = sockets.adopt(connected)
    buffer = bytearray()
    try:
        sock.settimeout(limits.request_head_timeout_s)
        while (end := message.find_head_end(buffer)) < 0:
            data = sock.recv(_RECV_BYTES)
            if not data:
                sock.close()
                return
            buffer += data
        head = message.parse_head(buffer[:end])
    except (OSError, Refused):
        sock.close()
        return
    _Connection(live, sock).run(head, bytes(buffer[end:]))


def _run(live: Live, connected: Any, head: Head, rest: bytes) -> None:
    _Connection(live, sockets.adopt(connected)).run(head, rest)


class _Connection:
    """One connection; a ``live.sessions.Line``."""

    ends_readers = True

    def __init__(self, live: Live, sock: Any) -> None:
        self._live = live
        self._sock = sock
        self._outlet = Outlet(sock, self._has_room)
        self._protocol = ServerProtocol(max_size=limits.frame_bytes_max, logger=_quiet)
        self._session: LiveSession | None = None
        self._slots = Slots(limits.commands_at_once_max)
        self._parts = bytearray()
        self._pong = b""

    def run(self, head: Head, rest: bytes) -> None:
        """Serve the connection to its end."""
        self._live.lines.add(self)
        try:
            self._sock.settimeout(limits.push_stall_s)
            if self._shake_hands(head):
                self._read(rest)
        except OSError:
            pass  # the client went away
        except Exception:  # noqa: BLE001 - the last frame of a connection: the log is all there is
            _log.exception("a WebSocket ended with an error of the server")
            self.close(FAULT, "the server failed")
        finally:
            if self._session is not None:
                self._session.lose(self)
            self._linger()
            self._outlet.close()
            self._live.lines.discard(self)

    def _shake_hands(self, head: Head) -> bool:
        """Answer the upgrade; whether it is a WebSocket now."""
        protocol = self._protocol
        protocol.receive_data(_spelled(head))
        upgrades = protocol.events_received()
        if not upgrades:  # the library cannot read it, and may have said nothing
            refused = protocol.reject(400, "This request cannot become a WebSocket")
            self._sock.sendall(refused.serialize())
            return False
        assert isinstance(upgrades[0], Upgrade)
        response = protocol.accept(upgrades[0])
        session = None
        if response.status_code == 101:
            try:
                session = self._live.session(_session_id(head.target))
            except NotFound as error:
                response = protocol.reject(404, error.errors[0])
        protocol.send_response(response)
        for data in protocol.data_to_send():
            self._sock.sendall(data)
        if session is None:
            return False
        self._session = session
        session.connect(self)
        return True

    # Reading

    def _read(self, data: bytes) -> None:
        session, protocol = self._session, self._protocol
        assert session is not None
        self._sock.settimeout(None)  # the session's own timers watch it
        while True:
            if data:
                session.heard()
                protocol.receive_data(data)
            for frame in protocol.events_received():
                self._take(frame)
            self._send_control()
            if protocol.state is not State.OPEN and protocol.close_expected():
                return
            sleep(0)  # who sends without a pause holds nobody up
            data = self._sock.recv(_RECV_BYTES)
            if not data:
                return

    def _linger(self) -> None:
        """Read and forget what the client still sends.

        Closing with unread bytes makes the kernel reset the connection, and the client may lose
        the close frame that tells it why.
        """
        until = monotonic() + limits.session_goodbye_s
        try:
            self._sock.shutdown(SHUT_WR)
            while (left_s := until - monotonic()) > 0:
                self._sock.settimeout(left_s)
                if not self._sock.recv(_RECV_BYTES):
                    return
                sleep(0)
        except OSError:
            return  # it has gone, or is late

    def _take(self, frame: Any) -> None:
        assert isinstance(frame, Frame)
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts += frame.data
            if frame.fin:
                text = bytes(self._parts)
                self._parts.clear()
                self._command(text)
        elif frame.opcode is Opcode.CLOSE and self._session is not None:
            closed = self._protocol.close_rcvd
            if closed is not None and closed.code in (NORMAL, CloseCode.NO_STATUS_RCVD):
                self._session.hung_up(self)

    def _command(self, text: bytes) -> None:
        session = self._session
        assert session is not None
        try:
            command = read_command(text)
        except Misread as error:
            if self._has_turn(session):
                session.reply(error.frame())
            return
        if command.type == "heartbeat" or not self._has_turn(session):
            return
        if command.type in IN_ORDER:
            work_off(command, session, self._live.handle)
            return
        self._slots.acquire()

        def work() -> None:
            try:
                work_off(command, session, self._live.handle)
            finally:
                self._slots.release()

        spawn(work)

    def _has_turn(self, session: LiveSession) -> bool:
        """Wait until the client has read what it was told; False if the connection ends first.

        Who does not read what it is answered is not asked what else it wants. Until then nothing
        is heard of it, for nobody listens: that it takes what is sent is its sign of life.
        """
        while not session.wait_until_room(_TURN_LOOK_S):
            if session.is_closed or self._outlet.is_over:
                return False
            session.heard()
        return True

    # Writing

    @property
    def is_blocked(self) -> bool:
        """Whether the kernel takes nothing at the moment."""
        return self._outlet.is_blocked

    def send(self, frames: list[bytes]) -> None:
        """Hand *frames* to the kernel, and keep what it does not take."""
        self._outlet.send(frames[0] if len(frames) == 1 else b"".join(frames))

    def _has_room(self) -> None:
        pong, self._pong = self._pong, b""
        if pong:
            self.send([pong])
        if self._session is not None:
            self._session.flush()

    def _send_control(self) -> None:
        frames = self._protocol.data_to_send()
        if self.is_blocked:  # of the pongs that cannot leave, the last one will do (RFC 6455 5.5.3)
            pongs = [frame for frame in frames if frame[:1] == _PONG]
            self._pong = pongs[-1] if pongs else self._pong
            frames = [frame for frame in frames if frame[:1] != _PONG]
        data = b"".join(frames)
        if data:
            self.send([data])

    def pulse(self) -> None:
        """Send a ping."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._send_control()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind what is kept; the connection ends soon after."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode(code), reason)
            self._send_control()
        self._outlet.cut_later()

    def cut(self) -> None:
        """End the connection at once; whoever waits on it sees its end."""
        self._outlet.cut()


_quiet = logging.getLogger("flowkit.server.websocket.frames")
_quiet.setLevel(logging.CRITICAL)


def _session_id(target: str) -> str:
    """The session in ``/session/<id>/ws``.

    Raises:
        NotFound: the address is another one.
    """
    path = target.partition("?")[0]
    if path.startswith(_TARGET) and path.endswith("/ws"):
        return path[len(_TARGET) : -len("/ws")]
    raise NotFound("There is no WebSocket at this address: make a session first")


def _spelled(head: Head) -> bytes:
    """A head that was read and checked, as bytes for the library, which wants to read it itself."""
    lines = [f"GET {head.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in head.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
