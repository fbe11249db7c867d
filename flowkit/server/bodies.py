"""Bodies to values: the one strict parser that reads every body of every request.

What it lets through is exactly what can be stored and answered again: finite numbers, whole numbers
of 64 bits, text without lone surrogates, at most 100 levels. Of doubled keys the last wins. The
fast way is orjson and two cheap looks at the text; only a body that fails one of them is read a
second time, slowly, to say which member is at fault.

Source: protocol 2.1 (what is refused), 3.2 (the content type is not looked at).
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from flowkit import limits
from flowkit.errors import BadRequest

__all__ = ["read_json"]

_LONG_NUMBER = re.compile(rb"[0-9]{19,}")
"""Nineteen digits in a row: the shortest run that may be a whole number beyond 64 bits."""

_LARGEST = str(limits.integer_max).encode()

_TOO_DEEP = f"body: is nested more than {limits.elems_depth_max} levels deep"


class _Refused:
    """Stands in the parsed value where something may not stand."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


def read_json(body: bytes, *, entries_apart: bool = False) -> Any:
    """The JSON value that *body* holds.

    Args:
        body: the bytes.
        entries_apart: judge each entry of an array by itself: one that may not be stored is a
            ``BadRequest`` in its place, and levels count from the entry.

    Raises:
        BadRequest: with one sentence per fault, each naming the member or the position.
    """
    if not body.strip():
        raise BadRequest("body: is empty, JSON is expected")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_slowly(body, entries_apart)
    if _is_deep(body, value) or _may_be_too_long(body):
        return _read_slowly(body, entries_apart)
    return value


def _may_be_too_long(body: bytes) -> bool:
    """Whether some digits may be a number beyond 64 bits; times in ns, also of 19, are not."""
    return any(
        len(digits) > len(_LARGEST) or digits > _LARGEST for digits in _LONG_NUMBER.findall(body)
    )


def _is_deep(body: bytes, value: Any) -> bool:
    """Whether there are more than the allowed levels; no stack is used, however deep *value* is."""
    if body.count(b"{") + body.count(b"[") <= limits.elems_depth_max:
        return False
    layer = [value] if isinstance(value, dict | list) else []
    for _ in range(limits.elems_depth_max):
        layer = [
            entry
            for holder in layer
            for entry in (holder.values() if type(holder) is dict else holder)
            if type(entry) is dict or type(entry) is list
        ]
        if not layer:
            return False
    return True


def _read_slowly(body: bytes, entries_apart: bool) -> Any:
    """Read what the fast way could not vouch for; raises unless nothing is wrong after all."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"body: is not UTF-8 at byte {error.start + 1}") from None
    if text.startswith("\ufeff"):
        raise BadRequest("body: begins with a byte order mark, send plain UTF-8")
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_fraction, parse_constant=_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise BadRequest(f"body: is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    if entries_apart and isinstance(value, list):
        return [_refusal(entry) or entry for entry in value]
    refusal = _refusal(value)
    if refusal is not None:
        raise refusal
    return value


def _refusal(value: Any) -> BadRequest | None:
    faults = _faults(value)
    return BadRequest(*faults) if faults else None


def _whole(digits: str) -> int | _Refused:
    # 20 characters hold every 64-bit number with its sign; int() of more could be slow
    if len(digits) <= 20 and limits.integer_min <= int(digits) <= limits.integer_max:
        return int(digits)
    return _Refused("whole numbers must fit into 64 bits")


def _fraction(digits: str) -> float | _Refused:
    number = float(digits)
    if number - number == 0:
        return number
    return _Refused("the number is too large")


def _constant(name: str) -> _Refused:
    return _Refused(f"{name} is not a JSON number")


def _faults(value: Any, most: int = 20) -> list[str]:
    """One sentence for each thing that may not stand in *value*, naming its member; as in the text.

    What is pending is a map or list with its place and level, or a sentence about one of its
    entries: a stack of them all would be slow to fill.
    """
    faults: list[str] = []
    pending: list[tuple[str, Any, int]] = [("", [value], 0)]
    while pending and len(faults) < most:
        place, holder, level = pending.pop()
        if type(holder) is str:
            faults.append(holder)
            continue
        if level > limits.elems_depth_max:
            return [_TOO_DEEP]
        inside: list[tuple[str, Any, int]] = []
        for name, entry in holder.items() if type(holder) is dict else enumerate(holder):
            kind = type(entry)
            if type(name) is str and not _encodable(name):
                inside.append(("", f"{_short(place)}: a name holds half of a surrogate pair", 0))
            if kind is dict or kind is list:
                inside.append((f"{place}.{name}" if level else "", entry, level + 1))
            elif kind is _Refused:
                inside.append(("", f"{_named(place, name, level)}: {entry.why}", 0))
            elif kind is str and not _encodable(entry):
                sentence = f"{_named(place, name, level)}: holds half of a surrogate pair"
                inside.append(("", sentence, 0))
        pending.extend(reversed(inside))
    return faults


def _named(place: str, name: object, level: int) -> str:
    return _short(f"{place}.{name}" if level else "")


def _short(place: str) -> str:
    """A place as it may stand in a sentence: bounded, and without broken characters."""
    shown = place[1:].encode("utf-8", "replace").decode("utf-8") or "body"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
