"""Element values: typed forms to plain values with a map of types, and back.

Stored are plain values and, beside them, the types that inference from the plain value would not
give: a map from member path to type name. Typed forms are read under ``v0.*`` only; there, an
object with exactly the keys ``type`` and ``value`` is a typed value if ``type`` is a string, and
refused if that names no type. The value of a ``map`` is taken as the map it is, so also a map that
looks like a typed value can be said.

A key of the map is the dotted way from the Drop, as filters write it: ``elems.stats.temp``,
``elems.list.0``; a dot or backslash inside a name is written with a backslash before it. The
matcher reads it so (``flowkit.query.meaning.has``).

Source: protocol 2 (element values).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from flowkit.errors import BadRequest
from flowkit.protocol.resources import is_id
from flowkit.server.markup import sanitised

__all__ = ["TYPES", "infer", "read_location", "read_typed", "show_typed", "type_path"]

Way = tuple[str, ...]
Typed = tuple[Any, dict[Way, str]]
"""A plain value and the types inside it, by their way from that value."""


def infer(value: Any) -> str | None:
    """The type name of a plain value (2.1); None for null, which has none."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if _fits_32(value) else "long"
    return _INFERRED[type(value)]


_INFERRED: dict[type, str] = {float: "float", str: "string", list: "list", dict: "map"}


def _fits_32(value: int) -> bool:
    return -(2**31) <= value < 2**31


def type_path(way: Iterable[str]) -> str:
    """The text of a way through maps and lists, as it stands in the map of types."""
    return ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in way)


# Reading


class _Faults(Exception):
    """What is wrong with a typed value."""


def read_typed(elems: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Plain elements and the map of types of *elems*, whose values may be typed.

    Raises:
        BadRequest: one sentence per element at fault, naming it.
    """
    plain: dict[str, Any] = {}
    types: dict[str, str] = {}
    faults: list[str] = []
    for name, given in elems.items():
        try:
            plain[name], inner = _read(given, ("elems", name))
        except _Faults as fault:
            faults.append(str(fault))
            continue
        types.update({type_path(("elems", name, *way)): kind for way, kind in inner.items()})
    if faults:
        raise BadRequest(*faults)
    return plain, types


def _read(given: Any, place: Way) -> Typed:
    if isinstance(given, dict):
        if set(given) == {"type", "value"} and isinstance(given["type"], str):
            return _read_as(given["type"], given["value"], place)
        return _read_map(given, place)
    return _read_list(given, place) if isinstance(given, list) else (given, {})


def _read_as(name: str, value: Any, place: Way) -> Typed:
    if name not in TYPES:
        raise _Faults(f"{type_path(place)}: Unknown element type: {name[:64]}")
    plain, types = TYPES[name](value, place)
    if infer(plain) != name:
        types = {(): name, **types}
    return plain, types


def _read_map(value: Any, place: Way) -> Typed:
    _demand(isinstance(value, dict), place, "an object")
    plain: dict[str, Any] = {}
    types: dict[Way, str] = {}
    for name, given in value.items():
        plain[name], inner = _read(given, (*place, name))
        types.update({(name, *way): kind for way, kind in inner.items()})
    return plain, types


def _read_sorted_map(value: Any, place: Way) -> Typed:
    plain, types = _read_map(value, place)
    return dict(sorted(plain.items())), types


def _read_list(value: Any, place: Way) -> Typed:
    return _numbered(_entries(value, place))


def _read_set(value: Any, place: Way) -> Typed:
    return _numbered(_distinct(_entries(value, place)))


def _read_sorted_set(value: Any, place: Way) -> Typed:
    return _numbered(sorted(_distinct(_entries(value, place)), key=lambda pair: _rank(pair[0])))


def _entries(value: Any, place: Way) -> list[Typed]:
    _demand(isinstance(value, list), place, "an array")
    return [_read(given, (*place, str(at))) for at, given in enumerate(value)]


def _distinct(entries: list[Typed]) -> list[Typed]:
    seen: dict[Any, Typed] = {}
    for plain, types in entries:
        seen.setdefault(_rank(plain), (plain, types))
    return list(seen.values())


def _numbered(entries: Iterable[Typed]) -> Typed:
    plain: list[Any] = []
    types: dict[Way, str] = {}
    for at, (value, inner) in enumerate(entries):
        plain.append(value)
        types.update({(str(at), *way): kind for way, kind in inner.items()})
    return plain, types


def _rank(value: Any) -> tuple[int, Any]:
    """Orders as a sort does (3.6): numbers, strings, false, true, everything else."""
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, int | float):
        return (0, value)
    if isinstance(value, str):
        return (1, value)
    return (3, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _demand(holds: bool, place: Way, what: str) -> None:
    if not holds:
        raise _Faults(f"{type_path(place)}: must be {what}")


def _scalar(check: Callable[[Any], bool], what: str) -> Callable[[Any, Way], Typed]:
    def read(value: Any, place: Way) -> Typed:
        _demand(check(value), place, what)
        return value, {}

    return read


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object_id(value: Any) -> bool:
    """Ids inside elements come with and without their prefix letter (1.1)."""
    return isinstance(value, str) and (is_id(value) or is_id(f"d{value}"))


def _read_html(value: Any, place: Way) -> Typed:
    _demand(_is_text(value), place, "a string")
    return sanitised(value), {}


def _read_drop_ref(value: Any, place: Way) -> Typed:
    what = "an object of flowId and dropId"
    _demand(isinstance(value, dict) and set(value) == {"flowId", "dropId"}, place, what)
    plain: dict[str, Any] = {}
    for name, given in value.items():
        wrapped = isinstance(given, dict) and set(given) == {"type", "value"}
        plain[name] = given["value"] if wrapped and given["type"] == "id" else given
        _demand(_is_object_id(plain[name]), (*place, name), "an id")
    return plain, {}


def _read_place(value: Any, place: Way) -> Typed:
    faults: list[str] = []
    location = read_location(value, type_path(place), faults, [])
    if faults:
        raise _Faults(faults[0])
    return location, {}


TYPES: Mapping[str, Callable[[Any, Way], Typed]] = {
    "string": _scalar(_is_text, "a string"),
    "boolean": _scalar(lambda value: isinstance(value, bool), "true or false"),
    "integer": _scalar(
        lambda value: _is_whole(value) and _fits_32(value), "a whole number of 32 bits"
    ),
    "long": _scalar(_is_whole, "a whole number"),
    "float": _scalar(_is_number, "a number"),
    "date": _scalar(_is_whole, "a whole number of milliseconds since 1970"),
    "email": _scalar(_is_text, "a string"),
    "uri": _scalar(_is_text, "a string"),
    "html": _read_html,
    "id": _scalar(_is_object_id, "an id"),
    "dropRef": _read_drop_ref,
    "location": _read_place,
    "list": _read_list,
    "set": _read_set,
    "sortedSet": _read_sorted_set,
    "map": _read_map,
    "sortedMap": _read_sorted_map,
}
"""The types of 2.2, and how the value of each is read."""


def read_location(value: Any, place: str, faults: list[str], notes: list[str]) -> dict[str, Any]:
    """A location (2.4) without members that it does not have; faults and notes are added to."""
    if not isinstance(value, dict):
        faults.append(f"{place}: must be an object of lat and lon")
        return {}
    for name, most in (("lat", 90), ("lon", 180)):
        if not _is_number(value.get(name)) or not -most <= value[name] <= most:
            faults.append(f"{place}.{name}: must be a number from -{most} to {most}")
    if not isinstance(value.get("specifiers", {}), dict):
        faults.append(f"{place}.specifiers: must be an object")
    known = ("lat", "lon", "specifiers")
    notes.extend(
        f"{place}.{name[:64]}: is not a member of a location and was ignored"
        for name in value
        if name not in known
    )
    return {name: value[name] for name in known if name in value}


# Showing


def show_typed(elems: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """The typed form of stored elements: every element, and inside it what inference would miss."""
    return {name: _show(value, ("elems", name), types) for name, value in elems.items()}


def _show(value: Any, way: Way, types: Mapping[str, str]) -> Any:
    name = _type_at(way, types) or infer(value)
    if name is None:
        return None
    if name == "dropRef":
        value = {part: {"type": "id", "value": text} for part, text in value.items()}
    elif name != "location":
        value = _show_inside(value, way, types)
    return {"type": name, "value": value}


def _show_inside(value: Any, way: Way, types: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _show_entry(entry, (*way, name), types) for name, entry in value.items()}
    if isinstance(value, list):
        return [_show_entry(entry, (*way, str(at)), types) for at, entry in enumerate(value)]
    return value


def _show_entry(value: Any, way: Way, types: Mapping[str, str]) -> Any:
    """An entry of a collection is plain where that reads back as the same."""
    looks_typed = isinstance(value, dict) and set(value) == {"type", "value"}
    if looks_typed or _type_at(way, types):
        return _show(value, way, types)
    return _show_inside(value, way, types)


def _type_at(way: Way, types: Mapping[str, str]) -> str | None:
    return types.get(type_path(way)) if types else None  # most drops have none: no text is made
