"""Messages of the server as WebSocket frames: one text frame each, not masked, encoded once.

A push goes to many sockets. The library that reads what clients send would encode it for each of
them; these few lines make the bytes that all of them share.

Source: RFC 6455 5.2 (framing), protocol 9.3, 9.4, ``positions`` 6.
"""

from __future__ import annotations

import struct
from typing import Any

import orjson

__all__ = ["frame", "frame_of", "payload"]

_TEXT = 0x81
_SHORT_MAX = 125
_MEDIUM_MAX = 0xFFFF


def frame(text: bytes) -> bytes:
    """The frame of a text."""
    size = len(text)
    if size <= _SHORT_MAX:
        return bytes((_TEXT, size)) + text
    if size <= _MEDIUM_MAX:
        return struct.pack("!BBH", _TEXT, 126, size) + text
    return struct.pack("!BBQ", _TEXT, 127, size) + text


def frame_of(message: Any) -> bytes:
    """The frame of a message."""
    return frame(orjson.dumps(message))


def payload(framed: bytes) -> bytes:
    """The text of a frame that ``frame`` made."""
    size = framed[1]
    return framed[2 if size <= _SHORT_MAX else 4 if size == 126 else 10 :]
