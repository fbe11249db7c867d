"""A real HTTP server on a socket whose every answer a test writes itself, bytes and all."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

from flowkit.green import NativeLock, start_thread


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    number: int
    """Which request it is on its connection, from 1."""


def answer(
    body: bytes = b"{}", status: int = 200, headers: tuple[str, ...] = (), *, length: bool = True
) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status} Said", "Content-Type: application/json", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class ScriptedServer:
    """Calls ``script(asked)`` in a native thread per connection and sends what it returns.

    Bytes are sent and the connection goes on; None ends the connection without a word; a tuple of
    bytes is sent and then the connection ends.
    """

    def __init__(self, script: Callable[[Asked], bytes | tuple[bytes, ...] | None], tls=None):
        self.script = script
        self.tls = tls
        self.asked: list[Asked] = []
        self.connections = 0
        self._lock = NativeLock()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listening.getsockname()[1]
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        start_thread(self._accept, name="scripted server")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            start_thread(self._serve, connection, name="scripted connection")

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self._open.add(connection)
        with contextlib.suppress(OSError):
            if self.tls:
                raw, connection = connection, self.tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.discard(raw)
                    self._open.add(connection)
            stream = connection.makefile("rb")
            number = 1
            while self._one(connection, stream, number):
                number += 1
        with self._lock:
            self._open.discard(connection)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        connection.close()

    def _one(self, connection, stream, number: int) -> bool:
        first = stream.readline().decode().split()
        if not first:
            return False
        headers = {}
        while (line := stream.readline().decode().rstrip("\r\n")) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        asked = Asked(first[0], first[1], headers, body, number)
        with self._lock:
            self.asked.append(asked)
        said = self.script(asked)
        if said is None:
            return False
        parts = said if isinstance(said, tuple) else (said,)
        for part in parts:
            connection.sendall(part)
        return not isinstance(said, tuple)

    @property
    def open_now(self) -> int:
        """Connections that are open."""
        with self._lock:
            return len(self._open)

    def hang_up(self) -> None:
        """End every connection, as a server does with idle ones."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening and end every connection."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.hang_up()
