"""What leaves on one socket of a session: at once where the kernel takes it, else bit by bit.

A push is handed to the kernel in the step that made it. What is refused is kept and written by a
greenlet of its own; a socket that takes nothing for a while is cut.

Source: ``positions`` 8 (written straight to the socket; nothing taken for 60 s).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowkit import limits
from flowkit.green import Signal, sleep, sockets, spawn

__all__ = ["Outlet"]

_SEND_BYTES = 256 * 1024


class Outlet:
    """The sending side of a socket, on its loop.

    Args:
        sock: a gevent socket of this loop.
        on_room: called when everything that was kept has left.

    Attributes:
        is_blocked: whether something is kept, so that nothing more should be brought.
        is_over: whether the connection has ended.
    """

    def __init__(self, sock: Any, on_room: Callable[[], object]) -> None:
        self.is_blocked = False
        self._sock = sock
        self._on_room = on_room
        self.is_over = False
        self._rest = bytearray()
        self._has_rest: Any = Signal()
        self._writing = spawn(self._write)

    def send(self, data: bytes) -> None:
        """Hand *data* to the kernel and keep what it does not take; never waits."""
        if self._rest:
            self._rest += data
            return
        try:
            sent = sockets.send_now(self._sock, data)
        except OSError:
            self.cut()
            return
        if sent < len(data):
            self._rest += memoryview(data)[sent:]
            self.is_blocked = True
            self._has_rest.set()

    def cut(self) -> None:
        """End the connection at once; whoever reads it sees its end."""
        self._rest.clear()
        self.is_blocked = self.is_over = True
        self._has_rest.set()
        sockets.shut(self._sock)

    def cut_later(self) -> None:
        """End the connection after what is kept has had its time to leave; never waits."""
        spawn(self._cut_later)

    def close(self) -> None:
        """Let go of the socket, once the greenlet that writes has ended."""
        self.cut()
        self._writing.cell.wait(limits.session_goodbye_s)
        self._sock.close()

    def _cut_later(self) -> None:
        sleep(limits.session_goodbye_s)
        self.cut()

    def _write(self) -> None:
        """Write what the kernel refused, as it takes it again."""
        while not self.is_over:
            self._has_rest.wait()
            self._has_rest.clear()
            if not self._drained():
                self.cut()
            elif not self.is_over:
                self.is_blocked = False
                self._on_room()

    def _drained(self) -> bool:
        """Write all that is kept; False if the socket has ended or takes nothing for too long."""
        try:
            while self._rest:
                if not sockets.wait_writable(self._sock, limits.push_stall_s):
                    return False
                sent = sockets.send_now(self._sock, bytes(self._rest[:_SEND_BYTES]))
                del self._rest[:sent]
        except OSError:
            return False
        return True
