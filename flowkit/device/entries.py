"""What may be put into an outbox, checked and encoded before anything is written; its receipt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowkit.device import bounds
from flowkit.errors import LimitError, UsageError

__all__ = [
    "Pending",
    "Receipt",
    "as_bytes",
    "check_priority",
    "check_stream",
    "encode",
    "encode_value",
]

_encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class Receipt(NamedTuple):
    """What an entry is known by, from now on and whenever it is sent."""

    stream: str
    sequence: int
    message: str
    box: str


@dataclass(frozen=True, slots=True)
class Pending:
    """How much waits to be stored by a server, and for how long the oldest does (None: nothing)."""

    count: int
    bytes: int
    oldest_age_s: float | None


def check_stream(stream: str) -> str:
    """*stream*, if it can be the name of one.

    Raises:
        UsageError: it is no text, or holds half of a surrogate pair.
        LimitError: it is empty or too long.
    """
    if not isinstance(stream, str):
        raise UsageError(f"the name of a stream is text, not {type(stream).__name__}")
    if not stream:
        raise UsageError("the name of a stream is empty")
    if len(stream) > bounds.outbox_stream_chars_max:
        raise LimitError(
            "the name of the stream",
            size=len(stream),
            limit=bounds.outbox_stream_chars_max,
            unit="characters",
        )
    if not stream.isascii():
        _utf8(stream, "the name of the stream")
    return stream


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} holds a character that UTF-8 has not: {error.reason}") from error


def _json(value: Any, what: str) -> bytes:
    """Compact JSON; what it cannot say is refused.

    Raises:
        UsageError: a value has no JSON form: NaN, bytes, a datetime, itself.
    """
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} has no JSON form: {error}") from error
    except RecursionError:
        raise UsageError(f"{what} is nested too deeply for JSON") from None
    return _utf8(text, what)


def encode(entry: Mapping[str, Any]) -> bytes:
    """An entry as JSON.

    Raises:
        UsageError: it is no mapping, has no JSON form, or names its own origin.
        LimitError: it is too large.
    """
    if type(entry) is not dict:
        if not isinstance(entry, Mapping):
            raise UsageError(f"an entry is a mapping, not {type(entry).__name__}")
        entry = dict(entry)
    if "origin" in entry:
        raise UsageError("an entry has no origin of its own", hint="the outbox gives it one")
    data = _json(entry, "the entry")
    if len(data) > bounds.outbox_entry_bytes_max:
        raise LimitError(
            "the entry", size=len(data), limit=bounds.outbox_entry_bytes_max, unit="bytes"
        )
    return data


def encode_value(name: str, value: Any) -> bytes:
    """A value that is kept beside the entries, as JSON.

    Raises:
        UsageError: it has no JSON form, or *name* is no text.
        LimitError: it is too large.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"the name of a kept value is text, not {name!r}")
    _utf8(name, "the name of a kept value")
    data = _json(value, f"the value {name!r}")
    if len(data) > bounds.outbox_value_bytes_max:
        raise LimitError(
            f"the value {name!r}", size=len(data), limit=bounds.outbox_value_bytes_max, unit="bytes"
        )
    return data


def as_bytes(payload: bytes | bytearray | memoryview) -> memoryview:
    """A payload as a flat view of its bytes.

    Raises:
        UsageError: it is no bytes.
    """
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise UsageError(f"a payload is bytes, not {type(payload).__name__}")
    return memoryview(payload).cast("B")


def check_priority(priority: int) -> int:
    """*priority*, if it is a whole number that SQLite can keep.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) > 1_000_000:
        raise UsageError(
            f"a priority is a whole number between -1000000 and 1000000, not {priority!r}"
        )
    return priority
