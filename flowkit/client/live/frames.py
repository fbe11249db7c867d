"""The bytes of a WebSocket: messages in, messages out.

The library ``websockets`` does the protocol. Beside it stands one short way: a whole text message
in one frame, which is what a server sends a hundred thousand of, is cut out of the bytes here, for
a fifth of the library's price. Everything else (control frames, fragments, faults) goes to the
library, whole frame by whole frame, so that its own state is always that of the stream.

Pure: no socket, no clock.

Source: RFC 6455 5.2 (framing), protocol 9.1, 9.6.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from flowkit import limits
from flowkit.errors import ConnectionLost, PlatformError, ProtocolError, platform_error

__all__ = ["Frames"]

_SILENT = logging.Logger("flowkit.client.frames", logging.CRITICAL + 1)
"""The library would log request lines, and with them the id of the session, which is a secret."""

_WHOLE_TEXT = 0x81
_MESSAGE_BYTES_MAX = limits.answer_bytes_max + limits.answer_slack_bytes
_HEAD_END = b"\r\n\r\n"
_TEXTS = (Opcode.TEXT, Opcode.CONT)


class Frames:
    """One end of one connection, the client's.

    Args:
        host: as it stands in the ``Host`` header.
        target: of the request that upgrades the connection.

    Attributes:
        code, reason: of the close frame that came, else None and "".
    """

    def __init__(self, host: str, target: str) -> None:
        self._protocol = ClientProtocol(
            parse_uri(f"ws://{host}{target}"), max_size=_MESSAGE_BYTES_MAX, logger=_SILENT
        )
        self._held = b""
        self._parts: list[bytes] = []
        self._is_in_parts = False
        self._has_refusal = False
        self.code: int | None = None
        self.reason = ""

    # --- the handshake

    def hello(self, headers: Mapping[str, str]) -> bytes:
        """The request that asks for the upgrade, with *headers* beside those of the protocol."""
        request = self._protocol.connect()
        for name, value in headers.items():
            request.headers.pop(name, None)
            request.headers[name] = value
        self._protocol.send_request(request)
        return self.to_send()

    def welcome(self, data: bytes) -> list[bytes] | None:
        """Take bytes of the answer; None until it is complete, then the messages behind it.

        Args:
            data: what came; nothing if the connection has ended.

        Raises:
            PlatformError: the server refused, with its status.
            ProtocolError: the answer is not one to a WebSocket handshake.
            ConnectionLost: it ended before the answer was complete.
        """
        held = self._held = self._held + data
        end = held.find(_HEAD_END) + len(_HEAD_END)
        if data and end < len(_HEAD_END) and not self._has_refusal:  # no end of the head yet
            if len(held) > limits.request_head_bytes_max:
                raise ProtocolError("the server does not speak WebSocket: its answer has no end")
            return None
        self._held = b""
        if held.startswith(b"HTTP/1.1 101") and end >= len(_HEAD_END):
            self._protocol.receive_data(held[:end])
            self._check_welcome()
            return self.messages(held[end:])
        self._protocol.receive_data(held)  # a refusal, whose body may still come
        if not data:
            self._protocol.receive_eof()
        self._check_welcome()
        self._has_refusal = True
        if not data:
            raise ConnectionLost("the server ended the connection during the handshake")
        return None

    def _check_welcome(self) -> None:
        refused = self._protocol.handshake_exc
        if isinstance(refused, InvalidStatus):
            raise _refusal(refused.response)
        if refused is not None:
            raise ProtocolError(f"the server does not speak WebSocket: {refused}")

    # --- messages

    def messages(self, data: bytes) -> list[bytes]:
        """The text messages that are complete with *data*, in order, as UTF-8.

        Nothing follows once ``is_over``; ``code`` and ``reason`` stand then.
        """
        found: list[bytes] = []
        if self.is_over:
            return found
        held = self._held + data if self._held else data
        end, at = len(held), 0
        while at + 2 <= end:
            size = held[at + 1]
            body = at + 2
            if size >= 126:
                body, size = _extent(held, at)
            stop = body + size
            if stop > end and size <= _MESSAGE_BYTES_MAX:
                break
            if held[at] == _WHOLE_TEXT and stop <= end and not self._is_in_parts:
                found.append(held[body:stop])
            else:
                self._by_library(held[at:stop], found)
                if self.is_over:
                    stop = end
            at = stop
        self._held = held[at:]
        return found

    def _by_library(self, data: bytes, found: list[bytes]) -> None:
        """Give whole frames to the library, and take what it makes of them."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in _TEXTS:
                self._is_in_parts = not event.fin
                self._parts.append(bytes(event.data))
                if event.fin:
                    found.append(b"".join(self._parts))
                    self._parts.clear()
        if self.is_over:
            received = self._protocol.close_rcvd or self._protocol.close_sent
            if received is not None:
                self.code, self.reason = received.code, received.reason

    @property
    def is_over(self) -> bool:
        """Whether nothing follows: the server has said so, or broke the rules of framing."""
        protocol = self._protocol
        return protocol.close_rcvd is not None or protocol.parser_exc is not None

    # --- sending

    def text(self, message: bytes) -> bytes:
        """The bytes of one text message, and of whatever the protocol had to say before."""
        self._protocol.send_text(message)
        return self.to_send()

    def ping(self) -> bytes:
        """The bytes of a ping, which the other end answers."""
        self._protocol.send_ping(b"")
        return self.to_send()

    def close(self, code: int) -> bytes:
        """The bytes of a close frame, none if one was sent already."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
        return self.to_send()

    def to_send(self) -> bytes:
        """What the protocol itself has to say: pongs, the answer to a close frame."""
        return b"".join(self._protocol.data_to_send())


def _extent(held: bytes, at: int) -> tuple[int, int]:
    """Where the body of the frame at *at* begins and how long it is; beyond the bound for a masked
    frame, which no server may send and the library refuses.
    """
    size = held[at + 1]
    if size == 126:
        body = at + 4
        return body, int.from_bytes(held[at + 2 : body]) if len(held) >= body else 0
    if size == 127:
        body = at + 10
        return body, int.from_bytes(held[at + 2 : body]) if len(held) >= body else 0
    return at + 2, _MESSAGE_BYTES_MAX + 1


def _refusal(response: Response) -> PlatformError:
    """The error for an answer that is not 101."""
    status = response.status_code
    if not 400 <= status < 600:
        raise ProtocolError(f"the server answered the WebSocket handshake with status {status}")
    error = platform_error(status)(
        "the server refused the WebSocket handshake", status=status, method="GET", path="/session"
    )
    asked = response.headers.get("Retry-After", "")
    error.retry_after_s = float(asked) if asked.isdecimal() else None
    return error
