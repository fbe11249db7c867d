"""Responses that are read within a time, however slowly they come.

The timeout of a socket is one for each piece of an answer: a server that sends a byte now and then
would keep a connection busy for hours. Here the deadline of the question holds for all of it.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from typing import Any

__all__ = ["TimedResponse"]


class _Timed(io.RawIOBase):
    """What a socket receives; before each piece the time that is left is asked for."""

    def __init__(self, raw: io.RawIOBase, allow: Callable[[], object]) -> None:
        super().__init__()
        self._raw = raw
        self._allow = allow

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._allow()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class TimedResponse(http.client.HTTPResponse):
    """A response of the standard library's client.

    Args:
        allow: gives the socket the time that is left, or raises.
    """

    def __init__(self, sock: Any, *args: Any, allow: Callable[[Any], object], **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp.close()
        raw = sock.makefile("rb", buffering=0)
        self.fp = io.BufferedReader(_Timed(raw, lambda: allow(sock)))
