"""How the body of a request is made smaller, where that pays.

gzip is in every Python; Brotli is taken where the package ``brotli`` is installed and the server
takes it. A body that does not get smaller goes as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from flowkit import limits
from flowkit.errors import SettingsError

__all__ = ["COMPRESSIONS", "Compressor", "check_compression", "unpacked"]

COMPRESSIONS = ("none", "fastest", "smallest")
"""What a sender can be asked for: no compression, the fastest, or the smallest result."""

_GZIP_LEVEL = {"fastest": 1, "smallest": 9}
_BROTLI_QUALITY = {"fastest": 1, "smallest": 11}


def check_compression(name: object) -> str:
    """*name*, if it is one of ``COMPRESSIONS``; of an enumeration, its value or name counts.

    Raises:
        SettingsError: it is none.
    """
    said = getattr(name, "value", name)
    text = said.lower() if isinstance(said, str) else said
    if text not in COMPRESSIONS:
        raise SettingsError(f"{name!r} is no compression", hint=f"one of {', '.join(COMPRESSIONS)}")
    return str(text)


class Compressor:
    """Makes bodies smaller in a way that one server takes."""

    def __init__(self) -> None:
        self._codings: list[tuple[str, Callable[[bytes, str], bytes]]] = [("gzip", _gzip)]
        if find_spec("brotli") is not None:
            self._codings.insert(0, ("br", _brotli))

    def pack(self, body: bytes, how: str) -> tuple[bytes, dict[str, str]]:
        """*body* as it is sent, and the headers that say how it was packed."""
        if how == "none" or len(body) < limits.gzip_bytes_min or not self._codings:
            return body, {}
        name, compress = self._codings[0]
        packed = compress(body, how)
        return (packed, {"Content-Encoding": name}) if len(packed) < len(body) else (body, {})

    def refuse(self, headers: dict[str, str]) -> bool:
        """The server does not take what *headers* say; whether they had anything to give up."""
        name = headers.get("Content-Encoding")
        self._codings = [each for each in self._codings if each[0] != name]
        return name is not None


def unpacked(body: bytes, coding: str | None) -> bytes:
    """*body* as it was before ``Compressor.pack``."""
    if coding is None:
        return body
    if coding == "br":
        brotli: Any = import_module("brotli")
        made: bytes = brotli.decompress(body)
        return made
    return zlib.decompress(body, zlib.MAX_WBITS | 16)


def _gzip(body: bytes, how: str) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL[how], zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(body) + packer.flush()


def _brotli(body: bytes, how: str) -> bytes:
    brotli: Any = import_module("brotli")
    made: bytes = brotli.compress(body, quality=_BROTLI_QUALITY[how])
    return made
