"""An object as keys and plain values: what ``Streamer.log_object`` sends.

A list gives ``list_0``, ``list_1`` …, a mapping ``dict_<key>``, anything with attributes
``<ClassName>_<attribute>``; a prefix of the caller's own takes the place of the first word, and an
empty one leaves it out. What is nested goes on with ``_``: ``dict_inside_0``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any

from flowkit.device import bounds
from flowkit.errors import LimitError, UsageError

__all__ = ["check_key", "flatten", "plain"]

_NO = object()


def check_key(key: object) -> str:
    """*key*, if an event can have it.

    Raises:
        UsageError: it is no text, empty, or the one that says when an event happened.
        LimitError: it is too long.
    """
    if not isinstance(key, str):
        raise UsageError(f"the key of an event is text, not {type(key).__name__}")
    if not key:
        raise UsageError("the key of an event is empty")
    if key == "_time":
        raise UsageError(
            f"{key!r} is no key of an event", hint="_time holds when it happened; use epoch="
        )
    if len(key) > bounds.event_key_chars_max:
        raise LimitError(
            "the key of the event",
            size=len(key),
            limit=bounds.event_key_chars_max,
            unit="characters",
        )
    return key


def plain(value: Any, key: str) -> Any:
    """A value as JSON says it: text, number, boolean or null.

    Dates and times become ISO text, Decimals and numbers of other libraries floats or ints, and
    members of an enumeration what they stand for.

    Raises:
        UsageError: it is none of these, no finite number, or one that does not fit into 64 bits;
            the error names the *key*.
    """
    found = _scalar(value)
    if found is _NO:
        raise UsageError(
            f"the value of {key!r} is of type {type(value).__name__}",
            hint="give text, a number or a boolean; log_object takes objects apart",
        )
    if isinstance(found, float) and not isfinite(found):
        raise UsageError(f"the value of {key!r} is {found}, which no JSON says")
    if isinstance(found, int) and not -(2**63) <= found < 2**63:
        raise UsageError(f"the value of {key!r} does not fit into 64 bits", hint="log it as text")
    return found


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:  # a number of numpy's
        return _scalar(value.item())
    return _NO


def flatten(obj: Any, prefix: str | None = None) -> dict[str, Any]:
    """Keys and plain values of *obj*.

    Args:
        prefix: in place of ``list``, ``dict`` or the name of the class; empty for none.

    Raises:
        UsageError: there is nothing in it, it is nested in itself, or two of its values would have
            the same key.
        LimitError: it has too many values.
    """
    if isinstance(obj, bytes | bytearray | memoryview) or _scalar(obj) is not _NO:
        raise UsageError(
            f"what is of type {type(obj).__name__} has no members to log",
            hint="log(key, value) takes values",
        )
    found: dict[str, Any] = {}
    for key, value in _walk(obj, _first_word(obj) if prefix is None else prefix, ()):
        if key in found:
            raise UsageError(f"two values of the object have the key {key!r}")
        found[check_key(key)] = plain(value, key)
        if len(found) > bounds.event_keys_max:
            raise LimitError(
                "the object", size=len(found), limit=bounds.event_keys_max, unit="values"
            )
    if not found:
        raise UsageError(f"there is nothing to log in a {type(obj).__name__} without members")
    return found


def _first_word(obj: Any) -> str:
    if isinstance(obj, Mapping):
        return "dict"
    if _fields(obj) is None and isinstance(obj, Iterable):
        return "list"
    return type(obj).__name__


def _walk(obj: Any, prefix: str, inside: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if id(obj) in inside or len(inside) >= bounds.event_depth_max:
        raise UsageError(f"the object is nested in itself, or too deeply, at {prefix!r}")
    for name, value in _members(obj):
        key = f"{prefix}_{name}" if prefix else str(name)
        if _scalar(value) is not _NO or isinstance(value, bytes | bytearray | memoryview):
            yield key, value
        else:
            yield from _walk(value, key, (*inside, id(obj)))


def _members(obj: Any) -> Iterable[tuple[Any, Any]]:
    """Name and value of everything in *obj*: of a mapping, a record, a sequence, an object."""
    if isinstance(obj, Mapping):
        return obj.items()
    fields = _fields(obj)
    if fields is not None:
        return [(name, getattr(obj, name)) for name in fields]
    if isinstance(obj, AbstractSet):
        obj = sorted(obj, key=repr)
    if isinstance(obj, Iterable):
        return enumerate(obj)
    return _attributes(obj)


def _fields(obj: Any) -> list[str] | None:
    """The fields of a dataclass or a named tuple."""
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return [field.name for field in dataclasses.fields(obj)]
    if isinstance(obj, tuple) and hasattr(obj, "_fields"):
        return list(obj._fields)
    return None


def _attributes(obj: Any) -> Iterator[tuple[str, Any]]:
    """Public attributes, slots and properties of an object, no methods."""
    slots = [getattr(kind, "__slots__", ()) for kind in type(obj).__mro__]
    named = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    properties = [
        name
        for kind in type(obj).__mro__
        for name, value in vars(kind).items()
        if isinstance(value, property)
    ]
    for name in dict.fromkeys([*getattr(obj, "__dict__", ()), *named, *properties]):
        if not name.startswith("_") and hasattr(obj, name):
            value = getattr(obj, name)
            if not callable(value):
                yield name, value
