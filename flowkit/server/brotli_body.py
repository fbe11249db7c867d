"""Bodies packed with Brotli, where the package ``brotli`` (1.2 or later) is installed.

Earlier versions cannot bound what one call gives, so a few bytes could fill the memory; with those
installed, or with none, Brotli is not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowkit.server.message import Refused, too_large

try:
    import brotli
except ModuleNotFoundError:
    brotli = None

__all__ = ["IS_OFFERED", "unbrotli"]

_SLICE_BYTES = 64 * 1024
_BOUNDED_SINCE = (1, 2)

IS_OFFERED = brotli is not None and (
    tuple(map(int, brotli.__version__.split(".")[:2])) >= _BOUNDED_SINCE
)
"""Whether a body may be packed so."""


def unbrotli(data: bytes, bytes_max: int, on_slice: Callable[[int], object] = bool) -> bytes:
    """Unpack a body, at most *bytes_max* bytes; as ``message.gunzip``.

    Raises:
        Refused: 413 beyond the bound, 400 for what is not Brotli, is cut short or goes on.
    """
    unpacker: Any = brotli.Decompressor()
    out = bytearray()
    rest = data
    while not unpacker.is_finished():
        try:
            part = unpacker.process(rest, output_buffer_limit=_SLICE_BYTES)
        except brotli.error:
            raise Refused("the body is not the Brotli that its Content-Encoding promises") from None
        rest = b""
        out += part
        if len(out) > bytes_max:
            raise too_large(bytes_max, inflated=True)
        if not part and unpacker.can_accept_more_data() and not unpacker.is_finished():
            raise Refused("the Brotli body is cut short")
        on_slice(len(part))
    return bytes(out)
