"""HTTP/1.1 as bytes: the head and the body of a request, checked; the bytes of an answer.

This is the strict half of the HTTP shell and it is pure: bytes in, values out, no socket and no
clock. ``http.py`` moves the bytes. Whatever two parsers could read in two ways is refused here,
because a proxy in front that reads it the other way lets one request be smuggled inside another:
lengths that are doubled or not plain digits, ``Transfer-Encoding`` other than ``chunked`` or beside
a length, a bare CR or LF, folded lines, space before a colon, a missing or doubled ``Host``.

A refusal is a ``BadRequest`` with one sentence and its status. After a refused head or framing
nobody knows where the next request begins, so the connection has to be closed.

Source: protocol 3.2 to 3.4 and 12 (bounds); RFC 9112 (framing), RFC 9110 (conditional parts).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from string import ascii_letters, digits
from urllib.parse import unquote_to_bytes

from flowkit import limits
from flowkit.errors import BadRequest

__all__ = [
    "ChunkedBody",
    "Head",
    "Refused",
    "CONTINUE",
    "accepts_gzip",
    "find_head_end",
    "gunzip",
    "gzip",
    "may_carry_an_array",
    "parse_head",
    "phrase",
    "render_head",
    "too_large",
]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""The interim answer to a client that asks before it sends a body."""

_SLICE_BYTES = 64 * 1024
"""Bytes that are compressed or inflated between two pauses: about half a millisecond."""

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z._~%!$&'()*+;=-]*)(:[0-9]*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_LINE_BREAK = re.compile(r"[\r\n\x00]")
_FIRST_BYTES = frozenset(b"\r!#$%&'*+.^_`|~-" + (ascii_letters + digits).encode())
"""What a request may begin with; a CR because an empty line before it is overlooked."""
_ONCE = frozenset({"host", "content-length", "transfer-encoding", "content-encoding", "expect"})
"""Headers of which a second one is refused instead of joined with a comma."""


class Refused(BadRequest):
    """A request that the shell does not pass on; the framing of what follows it may be unknown."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request that passed every check.

    Attributes:
        method: as sent; a token.
        target: path and query, percent-encoded, or ``*``.
        headers: names in lower case; values without surrounding space, doubled ones joined.
        length: bytes of the body, 0 for none, None for a chunked one.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        keep_alive: whether the client wants to go on with this connection.
        expects_continue: whether it waits for ``100 Continue`` before it sends the body.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    length: int | None
    minor: int
    keep_alive: bool
    expects_continue: bool


def find_head_end(buffer: bytearray, searched: int = 0) -> int:
    """Index behind the empty line that ends the head, or -1 while it has not arrived.

    *searched* is how much of the buffer an earlier call has seen. Refuses a head that is already
    too long or has a line that cannot be HTTP, so that nobody waits for the rest of it.
    """
    if buffer[:1] and buffer[0] not in _FIRST_BYTES:
        raise Refused("this is not HTTP: a request begins with its method (TLS is not spoken here)")
    end = buffer.find(b"\r\n\r\n", max(0, searched - 3))
    line_end = buffer.find(b"\n", 0, limits.request_line_bytes_max + 2)
    if line_end < 0 and len(buffer) > limits.request_line_bytes_max:
        raise Refused(
            f"the request line is longer than {limits.request_line_bytes_max} bytes", status=414
        )
    if (end < 0 and len(buffer) > limits.request_head_bytes_max) or (
        end > limits.request_head_bytes_max
    ):
        raise Refused(
            f"the headers are longer than {limits.request_head_bytes_max} bytes together",
            status=431,
        )
    if end < 0:
        # Whole lines only, from the one that was incomplete at the last look.
        first = buffer.rfind(b"\n", 0, searched) + 1
        _refuse_lone_breaks(buffer[first : buffer.rfind(b"\n") + 1])
    return end + 4 if end >= 0 else -1


def _refuse_lone_breaks(lines: bytes | bytearray) -> None:
    """Refuse a CR or LF that is not part of a CR LF pair."""
    pairs = lines.count(b"\r\n")
    if lines.count(b"\n") != pairs or lines.count(b"\r") != pairs:
        raise Refused("a line does not end in CR LF: a CR or LF stands alone in the headers")


def parse_head(data: bytes | bytearray) -> Head:
    """Read a head, from the request line to the empty line.

    Raises:
        Refused: it can be read in more than one way, or not at all.
    """
    _refuse_lone_breaks(data)
    text = data.decode("latin-1")
    line, *fields = text[:-4].split("\r\n")
    method, target, minor = _request_line(line)
    control = _CONTROL.search(text)
    if control:
        raise Refused(f"the headers hold the control character 0x{ord(control[0]):02x}")
    headers = _headers(fields)
    target = _checked_target(method, target)
    _check_host(headers, minor)
    length = _length(headers, minor)
    return Head(
        method=method,
        target=target,
        headers=headers,
        length=length,
        minor=minor,
        keep_alive=_keeps_alive(headers.get("connection", ""), minor),
        expects_continue=_expects_continue(headers, minor),
    )


def _request_line(line: str) -> tuple[str, str, int]:
    """Method, target and minor version."""
    match = _REQUEST_LINE.fullmatch(line)
    if match:
        return match[1], match[2], int(match[3])
    words = line.split(" ")
    if len(words) == 2 and words[0] == "GET":
        raise Refused("HTTP/0.9 is not spoken here: a request line ends with HTTP/1.1")
    if not line.isascii():
        raise Refused("the request line holds a byte outside ASCII: percent-encode it")
    if len(words) == 3 and words[2].startswith("HTTP/"):
        if not re.fullmatch(r"HTTP/1\.[01]", words[2]):
            raise Refused("only HTTP/1.1 and HTTP/1.0 are spoken here")
        raise Refused(
            "the request line has a method or a target with characters that do not belong"
        )
    raise Refused("the request line is not: METHOD, one space, target, one space, HTTP/1.1")


def _headers(fields: Iterable[str]) -> dict[str, str]:
    """Names in lower case to values."""
    headers: dict[str, str] = {}
    for count, field in enumerate(fields, 1):
        if count > limits.request_headers_max:
            raise Refused(f"more than {limits.request_headers_max} headers", status=431)
        name, colon, value = field.partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise Refused(_broken_field(field, name, colon))
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise Refused(f"the header {name} stands there twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _broken_field(field: str, name: str, colon: str) -> str:
    """What is wrong with a header line; never its value, which may be a secret."""
    if field[:1] in (" ", "\t"):
        return "a header line begins with a space: folded lines are not accepted"
    if not colon:
        return "a header line has no colon"
    if name != name.rstrip(" \t"):
        return "a header has a space before its colon"
    return "a header name has a character that does not belong there, or is empty"


def _checked_target(method: str, target: str) -> str:
    """The target as path and query; the host of an absolute one is left out."""
    if target[:7].lower() == "http://" or target[:8].lower() == "https://":
        rest = target.split("://", 1)[1]
        cut = re.search(r"[/?]", rest)
        host = rest[: cut.start()] if cut else rest
        if not host or not _HOST.fullmatch(host):
            raise Refused("the host in the request target is not a host name")
        path = rest[cut.start() :] if cut else ""
        target = path if path.startswith("/") else "/" + path
    if target == "*" and method == "OPTIONS":
        return target
    if not target.startswith("/"):
        raise Refused("the request target begins neither with / nor with http://")
    if "#" in target:
        raise Refused("the request target holds a #: percent-encode it as %23")
    if "%" in target:
        broken = _BROKEN_PERCENT.search(target)
        if broken:
            raise Refused(
                f"the request target has a % without two hex digits at index {broken.start()}: "
                "a plain percent sign is written %25"
            )
        try:
            unquote_to_bytes(target).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("the request target is not UTF-8 once it is percent-decoded") from None
    return target


def _check_host(headers: Mapping[str, str], minor: int) -> None:
    host = headers.get("host")
    if host is None:
        if minor == 1:
            raise Refused("the header Host is missing")
    elif not _HOST.fullmatch(host):
        raise Refused("the header Host is not a host name with an optional port")


def _length(headers: Mapping[str, str], minor: int) -> int | None:
    """Bytes of the body; None for a chunked one."""
    encoding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked":
            raise Refused("Transfer-Encoding can only be chunked")
        if length is not None:
            raise Refused("Transfer-Encoding and Content-Length exclude one another")
        if minor == 0:
            raise Refused("Transfer-Encoding does not exist in HTTP/1.0")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise Refused("Content-Length is not one plain number")
    return int(length)


def _keeps_alive(connection: str, minor: int) -> bool:
    wishes = {wish.strip().lower() for wish in connection.split(",")}
    return "close" not in wishes and (minor == 1 or "keep-alive" in wishes)


def _expects_continue(headers: Mapping[str, str], minor: int) -> bool:
    expect = headers.get("expect")
    if expect is None or minor == 0:
        return False
    if expect.lower() != "100-continue":
        raise Refused("the only expectation that is met is 100-continue", status=417)
    return True


def may_carry_an_array(head: Head) -> bool:
    """Whether this may be an array create, whose body may be longer (protocol 12).

    Whether the body is an array is seen later, by the application.
    """
    parts = head.target.partition("?")[0].split("/", 4)
    return head.method == "POST" and len(parts) > 3 and parts[3] == "drop"


def too_large(bytes_max: int, *, inflated: bool = False) -> Refused:
    """The refusal of a body beyond its bound."""
    unpacked = " once it is unpacked" if inflated else ""
    return Refused(f"body: is larger than {bytes_max} bytes{unpacked}", status=413)


class ChunkedBody:
    """A chunked body as it arrives: bytes are fed, whole data comes out.

    Args:
        bytes_max: bound of the data; more is refused with 413 before it is kept.

    Attributes:
        data: what has arrived.
    """

    def __init__(self, bytes_max: int) -> None:
        self.data = bytearray()
        self._bytes_max = bytes_max
        self._left = 0
        self._step: Callable[[bytearray], bool] = self._read_size
        self._trailer_bytes = 0
        self._ended = False

    def feed(self, buffer: bytearray) -> bool:
        """Take from the front of *buffer* what belongs to this body; True once it has ended.

        Raises:
            Refused: broken framing or too much data.
        """
        while not self._ended and self._step(buffer):
            pass
        return self._ended

    def _line(self, buffer: bytearray) -> bytes | None:
        """Take one line off the buffer, or None while it is not complete."""
        end = buffer.find(b"\n", 0, limits.chunk_line_bytes_max)
        if end < 0:
            if len(buffer) >= limits.chunk_line_bytes_max:
                raise Refused("a line between the chunks of the body is too long")
            return None
        if buffer[end - 1 : end] != b"\r":
            raise Refused("a line between the chunks of the body does not end in CR LF")
        line = bytes(buffer[: end - 1])
        del buffer[: end + 1]
        return line

    def _read_size(self, buffer: bytearray) -> bool:
        line = self._line(buffer)
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if not match:
            raise Refused("a chunk of the body does not begin with its size in hex digits")
        self._left = int(match[1], 16)
        if len(self.data) + self._left > self._bytes_max:
            raise too_large(self._bytes_max)
        self._step = self._read_data if self._left else self._read_trailer
        return True

    def _read_data(self, buffer: bytearray) -> bool:
        part = buffer[: self._left]
        del buffer[: len(part)]
        self.data += part
        self._left -= len(part)
        if self._left:
            return False
        if len(buffer) < 2:
            return False
        if buffer[:2] != b"\r\n":
            raise Refused("a chunk of the body is longer than its size says")
        del buffer[:2]
        self._step = self._read_size
        return True

    def _read_trailer(self, buffer: bytearray) -> bool:
        line = self._line(buffer)
        if line is None:
            return False
        self._trailer_bytes += len(line)
        if self._trailer_bytes > limits.chunk_line_bytes_max:
            raise Refused("the trailers behind the body are too long", status=431)
        if line and not _TRAILER.fullmatch(line):
            raise Refused("a trailer behind the body is not a header line")
        self._ended = not line
        return True


def gunzip(data: bytes, bytes_max: int, on_slice: Callable[[int], object] = bool) -> bytes:
    """Unpack a gzip body, at most *bytes_max* bytes.

    Never holds more than the bound and one slice, whatever the packed bytes say. *on_slice* is
    called with the size of each slice: it may let others run, and may raise.

    Raises:
        Refused: 413 beyond the bound, 400 for what is not gzip or is cut short.
    """
    out = bytearray()
    rest = data
    members = 0
    while rest:
        members += 1
        if members > limits.gzip_members_max:
            raise Refused(f"the gzip body has more than {limits.gzip_members_max} members")
        rest = _gunzip_member(rest, out, bytes_max, on_slice)
    return bytes(out)


def _gunzip_member(
    data: bytes, out: bytearray, bytes_max: int, on_slice: Callable[[int], object]
) -> bytes:
    """Unpack one member to the end of *out*; returns what follows it."""
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    rest = data
    while not member.eof:
        try:
            part = member.decompress(rest, _SLICE_BYTES)
        except zlib.error:
            raise Refused("the body is not the gzip that its Content-Encoding promises") from None
        out += part
        rest = member.unconsumed_tail
        if len(out) > bytes_max:
            raise too_large(bytes_max, inflated=True)
        if not part and not rest and not member.eof:
            raise Refused("the gzip body is cut short")
        on_slice(len(part))
    return member.unused_data


def gzip(data: bytes, pause: Callable[[], object] = bool) -> bytes:
    """Pack *data* fast rather than small; *pause* is called between slices."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    view = memoryview(data)
    parts = []
    for at in range(0, len(view), _SLICE_BYTES):
        if at:
            pause()
        parts.append(packer.compress(view[at : at + _SLICE_BYTES]))
    parts.append(packer.flush())
    return b"".join(parts)


def accepts_gzip(header: str) -> bool:
    """Whether an ``Accept-Encoding`` header allows a gzip answer."""
    weights = {}
    for offer in header.lower().split(","):
        coding, _, parameters = offer.partition(";")
        weight = re.fullmatch(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", parameters)
        weights[coding.strip()] = float(weight[1]) if weight else 1.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def render_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line, headers and the empty line.

    Raises:
        ValueError: a header would begin a new line (response splitting).
    """
    lines = [f"HTTP/1.1 {status} {phrase(status)}"]
    for name, value in headers:
        if _LINE_BREAK.search(name) or _LINE_BREAK.search(value):
            raise ValueError(f"the answer header {name!r} holds a line break")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def phrase(status: int) -> str:
    """The words behind a status in the status line."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
