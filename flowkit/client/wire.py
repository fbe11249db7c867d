"""One HTTP/1.1 connection: a request's bytes out, an answer back.

The parser is geventhttpclient's (llhttp); nothing else of that package is used. A ``Wire`` knows
nothing of pools, retries or the platform. It belongs to one caller at a time; ``abort`` alone may
come from any thread.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any

from geventhttpclient._parser import HTTPParseError, HTTPResponseParser

from flowkit import limits
from flowkit.errors import ConnectionLost, DeadlineExceeded, ProtocolError
from flowkit.green import Deadline, monotonic, sockets
from flowkit.protocol.envelope import Response

__all__ = ["Stale", "Wire"]

_READ_BYTES = 65_536
_SEND_BYTES = 1024 * 1024


class Stale(Exception):
    """The server ended an idle connection before any byte of the answer.

    Attributes:
        sent: whether any byte of the request may have reached the server.
    """

    def __init__(self, sent: bool) -> None:
        super().__init__(sent)
        self.sent = sent


class _Reader(HTTPResponseParser):
    """Collects one final answer; interim ones (1xx) are passed over."""

    def __init__(self, head_only: bool) -> None:
        super().__init__()
        self.head_only = head_only
        self.done = False
        self.excess = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.keep_alive = False
        self._name = ""
        self._value = ""
        self._in_value = False
        self._in_head = True

    def _on_status(self, text: str) -> None:
        pass

    def _on_message_begin(self) -> None:
        self.excess = self.done

    def _on_header_field(self, text: str) -> None:
        if self._in_value:
            self._keep_header()
        self._name += text

    def _on_header_value(self, text: str) -> None:
        self._in_value = True
        self._value += text

    def _keep_header(self) -> None:
        name = self._name.lower()
        if self._in_head and not self.done:
            known = self.headers.get(name)
            self.headers[name] = self._value if known is None else f"{known}, {self._value}"
        self._name = self._value = ""
        self._in_value = False

    def _on_headers_complete(self) -> bool:
        if self._name:
            self._keep_header()
        if not self.done:
            self._in_head = False
            self.status = self.get_code()
        return self.head_only

    def _on_body(self, part: bytearray) -> None:
        if not self.done:
            self.body += part

    def _on_message_complete(self) -> None:
        if self.done:
            return
        if self.status < 200:
            self.headers.clear()
            self._in_head = True
            return
        self.done = True
        self.keep_alive = self.should_keep_alive()


class Wire:
    """One connection and what is known about it.

    Args:
        connected: a socket of ``flowkit.green.sockets.connect``.
        where: ``host:port``, for errors.
    """

    __slots__ = ("fresh", "idle_since", "reusable", "socket", "where")

    def __init__(self, connected: Any, where: str) -> None:
        self.socket = connected
        self.where = where
        self.fresh = True
        self.reusable = False
        self.idle_since = 0.0

    def exchange(self, message: bytes, method: str, deadline: Deadline) -> Response:
        """Send *message* and read the answer; ``reusable`` says afterwards whether to keep this.

        Raises:
            Stale: this connection had been used before, and ended before any answer.
            ConnectionLost: it ended in the middle.
            DeadlineExceeded: not in time.
            ProtocolError: the answer is not HTTP, or too large.
        """
        self.reusable = False
        try:
            broken = self._send(message, deadline)
            response = self._read(method, deadline, broken)
        except DeadlineExceeded as error:
            raise self._late(deadline) from error
        self.fresh = False
        self.idle_since = monotonic()
        return response

    def _late(self, deadline: Deadline) -> DeadlineExceeded:
        return DeadlineExceeded(f"no answer from {self.where} within {deadline.timeout_s:g} s")

    def _send(self, message: bytes, deadline: Deadline) -> OSError | None:
        """Send all; the error if the server hung up meanwhile: it may have answered before."""
        left = memoryview(message)
        try:
            while left:
                self.socket.settimeout(deadline.left_s())
                left = left[self.socket.send(left[:_SEND_BYTES]) :]
        except OSError as error:
            deadline.left_s()  # a timeout comes as several kinds of OSError
            if len(left) == len(message) and not self.fresh:
                raise Stale(sent=False) from error
            return error
        return None

    def _read(self, method: str, deadline: Deadline, broken: OSError | None) -> Response:
        reader = _Reader(method == "HEAD")
        seen = 0
        while not reader.done:
            self.socket.settimeout(deadline.left_s())
            try:
                part = self.socket.recv(_READ_BYTES)
            except OSError as error:
                deadline.left_s()  # a timeout comes as several kinds of OSError
                raise self._lost(seen, broken or error) from (broken or error)
            if not part and not seen:
                raise self._lost(seen, broken) from broken
            seen += len(part)
            self._feed(reader, part)
            self._check_size(len(reader.body), seen - len(reader.body))
        self.reusable = reader.keep_alive and not reader.excess and broken is None
        return Response(reader.status, reader.headers, self._body(reader))

    def _feed(self, reader: _Reader, part: bytes) -> None:
        try:
            reader.feed(part)
        except HTTPParseError as error:
            if reader.done:  # bytes after the answer: it stands, the connection does not
                reader.excess = True
                return
            if not part:
                raise ConnectionLost(
                    f"{self.where} ended the connection in the middle of its answer"
                ) from error
            raise ProtocolError(f"{self.where} does not speak HTTP: {error}") from error

    def _lost(self, seen: int, error: OSError | None) -> Exception:
        if not seen and not self.fresh:
            return Stale(sent=True)
        reason = f" ({error.strerror or error})" if error else ""
        if seen:
            return ConnectionLost(
                f"{self.where} ended the connection in the middle of its answer{reason}"
            )
        return ConnectionLost(f"{self.where} ended the connection without an answer{reason}")

    def _check_size(self, body_bytes: int, head_bytes: int) -> None:
        most = limits.answer_bytes_max + limits.answer_slack_bytes
        if body_bytes > most or head_bytes > most:
            raise ProtocolError(f"{self.where} sent an answer of more than {most} bytes")

    def _body(self, reader: _Reader) -> bytes:
        coding = reader.headers.get("content-encoding", "").strip().lower()
        if coding not in ("gzip", "x-gzip") or not reader.body:
            return bytes(reader.body)
        most = limits.answer_bytes_max + limits.answer_slack_bytes
        opened = gunzip(bytes(reader.body), most, self.where)
        for name in ("content-encoding", "content-length"):  # they describe the closed form
            reader.headers.pop(name, None)
        return opened

    def is_usable(self, must_look: bool) -> bool:
        """Whether to send on it again; *must_look* asks the system even if it was used just now."""
        now = monotonic()
        if self.is_old(now):
            return False
        is_trusted = not must_look and now - self.idle_since < _TRUSTED_IDLE_S
        return is_trusted or sockets.is_quiet(self.socket)

    def is_old(self, now: float) -> bool:
        """Whether it has been idle for so long that the server may be about to end it."""
        return now - self.idle_since > limits.idle_connection_s

    def abort(self) -> None:
        """End the traffic, from any thread: whoever waits for an answer gets ``ConnectionLost``."""
        sockets.shut(self.socket)

    def close(self) -> None:
        """Close it, from the thread that owns it."""
        with suppress(OSError):  # it is gone, which is what was wanted
            self.socket.close()


_TRUSTED_IDLE_S = 1.0


def gunzip(body: bytes, most: int, where: str) -> bytes:
    """The bytes that a gzip *body* stands for, at most *most*.

    Raises:
        ProtocolError: it is not gzip, ends early, or opens to more.
    """
    opener = zlib.decompressobj(wbits=31)
    try:
        opened = opener.decompress(body, most + 1)
    except zlib.error as error:
        raise ProtocolError(f"{where} sent an answer that is not gzip: {error}") from error
    if len(opened) > most:
        raise ProtocolError(f"{where} sent an answer of more than {most} bytes")
    if not opener.eof:
        raise ConnectionLost(f"{where} ended the connection in the middle of its answer")
    return opened
