"""The meaning of filters once more, from protocol 4.5 alone: slow, plain, shared with nobody.

The evaluators under test share the functions of ``flowkit.query.meaning``; a mistake there would be
made by all of them alike. This one imports only the nodes.
"""

# ruff: noqa: D102 - the rules are named for their nodes

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from flowkit.query import nodes as n

NOTHING = object()
OWN = set(
    "id flowId path creationDate lastEditDate creatorId lastEditorId version fhash location"
    " parentDropId elems".split()
)


class Oracle:
    """Answers filters for one object."""

    def __init__(self, obj: Any, resource: str, now_ms: int, places: Any, types: Any) -> None:
        self.obj, self.resource, self.now_ms = obj, resource, now_ms
        self.places, self.types = places, types

    def holds(self, node: n.Filter) -> bool:
        """Whether the object matches."""
        return bool(getattr(self, f"on_{type(node).__name__.lower()}")(node))

    # -- candidates (4.5.0)

    def reached(self, path: n.Path) -> list[Any]:
        """The values at the ends of a path, arrays unopened."""
        if self.resource == "drop" and path[0] not in OWN:
            path = ("elems", *path)
        return self.below(self.obj, list(path))

    def below(self, value: Any, rest: list[str]) -> list[Any]:
        """The values below one value."""
        if not rest:
            return [value]
        name, *more = rest
        if isinstance(value, dict):
            return self.below(value[name], more) if name in value else []
        if isinstance(value, list) and re.fullmatch("[0-9]+", name):
            return self.below(value[int(name)], more) if int(name) < len(value) else []
        if isinstance(value, list):
            return [
                one
                for entry in value
                if isinstance(entry, dict) and name in entry
                for one in self.below(entry[name], more)
            ]
        return []

    def opened(self, path: n.Path) -> list[Any]:
        """The candidates: ends, with arrays opened one level."""
        return [
            one for end in self.reached(path) for one in (end if isinstance(end, list) else [end])
        ]

    # -- rules

    def on_everything(self, node: n.Everything) -> bool:
        return True

    def on_and(self, node: n.And) -> bool:
        return all(self.holds(part) for part in node.operands)

    def on_or(self, node: n.Or) -> bool:
        return any(self.holds(part) for part in node.operands)

    def on_not(self, node: n.Not) -> bool:
        return not self.holds(node.operand)

    def on_comparison(self, node: n.Comparison) -> bool:
        if node.op == "!=":
            return not self.on_comparison(n.Comparison(node.path, "==", node.value))
        if node.op == "==" and node.value is None and not self.reached(node.path):
            return True
        return any(compare(one, node.op, node.value) for one in self.opened(node.path))

    def on_membercomparison(self, node: n.MemberComparison) -> bool:
        op = "==" if node.op == "!=" else node.op
        found = any(
            compare(one, op, other)
            for one in self.reached(node.path)
            for other in self.reached(node.other)
        )
        return found is not (node.op == "!=")

    def on_modulo(self, node: n.Modulo) -> bool:
        found = any(remainder_is(one, node) for one in self.opened(node.path))
        return found is not (node.op == "!=")

    def on_in(self, node: n.In) -> bool:
        return any(
            compare(one, "==", value) for one in self.opened(node.path) for value in node.values
        )

    def on_contains(self, node: n.Contains) -> bool:
        return any(self.contains(end, node.values) for end in self.reached(node.path))

    def contains(self, end: Any, values: Any) -> bool:
        """Whether one value holds all of the others."""
        if not values:
            return end is not None
        if isinstance(end, list):
            return all(any(compare(entry, "==", value) for entry in end) for value in values)
        if isinstance(end, str | dict):
            return all(isinstance(value, str) and value in end for value in values)
        return False

    def on_exists(self, node: n.Exists) -> bool:
        return any(end is not None for end in self.reached(node.path))

    def on_regex(self, node: n.Regex) -> bool:
        texts = [one for one in self.opened(node.path) if isinstance(one, str)]
        return any(search(node.pattern, node.flags, text) for text in texts)

    def on_matches(self, node: n.Matches) -> bool:
        shown = [self.obj.get(name) for name in ("elems", "fhash", "path")]
        texts = strings(shown if self.resource == "drop" else list(self.obj.values()))
        return any(search(node.pattern, node.flags, text) for text in texts)

    def on_age(self, node: n.Age) -> bool:
        op = "==" if node.op == "!=" else node.op
        ends = self.reached(node.path or ("creationDate",))
        found = any(
            compare(self.now_ms - end, op, node.ms) for end in ends if kind(end) == "number"
        )
        return found is not (node.op == "!=")

    def on_within(self, node: n.Within) -> bool:
        place = self.places(node.place.code) if isinstance(node.place, n.Zip) else node.place
        kilometres = {"MILES": 1.609344, "KM": 1.0, "M": 0.001}[node.unit] * node.distance
        for end in self.reached(node.path):
            pair = [end.get("lat"), end.get("lon")] if isinstance(end, dict) else end
            if not isinstance(pair, list) or len(pair) != 2 or {*map(kind, pair)} != {"number"}:
                continue
            if abs(pair[0]) <= 90 and abs(pair[1]) <= 180:
                away = distance_km(*pair, *place)
                # Within a metre of the circle rounding decides, and any answer is right.
                if away < kilometres - 0.001:
                    return True
                if away <= kilometres + 0.001:
                    raise Undecided
        return False

    def on_has(self, node: n.Has) -> bool:
        whole = {"integer", "long"}
        wanted = whole if node.type_name in whole else {node.type_name}
        root = self.obj.get("elems") if self.resource == "drop" else self.obj
        types = self.types or {}
        named = {path: name for path, name in types.items() if name in wanted}
        return bool(named) or any(
            name in wanted for path, name in typed(root, "elems") if path not in types
        )


class Undecided(Exception):
    """Rounding decides: the oracle has no opinion."""


def kind(value: Any) -> str:
    """The kinds that never equal one another."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def compare(one: Any, op: str, other: Any) -> bool:
    """A comparison of two values."""
    if kind(one) != kind(other):
        return False
    if op == "==":
        if isinstance(one, list):
            pairs = zip(one, other, strict=False)
            return len(one) == len(other) and all(compare(a, "==", b) for a, b in pairs)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(
                compare(one[name], "==", other[name]) for name in one
            )
        return bool(one == other)
    if kind(one) == "number":
        left, right = Fraction(one), Fraction(other)
    elif kind(one) == "str":
        left, right = [*map(ord, one)], [*map(ord, other)]
    else:
        return False
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[op]


def remainder_is(value: Any, node: n.Modulo) -> bool:
    """The remainder of a division that rounds towards zero."""
    if kind(value) != "number":
        return False
    if isinstance(value, int) and isinstance(node.divisor, int):
        exact = Fraction(value)
    else:
        exact = Fraction(float(value))
    divisor = Fraction(node.divisor)
    return exact - divisor * math.trunc(exact / divisor) == Fraction(node.remainder)


@cache
def compiled(pattern: str, flags: str) -> Any:
    """A pattern of the campaign for Python's own engine."""
    mode = (
        re.IGNORECASE * ("i" in flags) | re.MULTILINE * ("m" in flags) | re.DOTALL * ("s" in flags)
    )
    mode |= re.VERBOSE * ("x" in flags) | (0 if "u" in flags else re.ASCII)
    # Java's classes are ASCII whatever the flags.
    for short, items in ((r"\w", "0-9A-Za-z_"), (r"\d", "0-9"), (r"\s", r" \t\n\x0b\f\r")):
        pattern = pattern.replace(short, f"(?-i:[{items}])")
    return re.compile(pattern, mode)


def search(pattern: Any, flags: str, text: str) -> bool:
    """Whether a pattern is found; the one class that Python lacks is worked out here."""
    if pattern == r"\p{Lu}":
        return any(unicodedata.category(letter) == "Lu" for letter in text)
    return compiled(pattern, flags).search(text) is not None


def strings(value: Any) -> list[str]:
    """Every string inside a value; no names."""
    if isinstance(value, str):
        return [value]
    inside = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    )
    return [text for entry in inside for text in strings(entry)]


def typed(value: Any, path: str) -> list[tuple[str, str]]:
    """Path and inferred type of everything below a value."""
    entries = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = []
    for name, entry in entries:
        way = path + "." + str(name).replace("\\", "\\\\").replace(".", "\\.")
        names = {"str": "string", "boolean": "boolean", "dict": "map", "list": "list"}
        if kind(entry) == "number":
            found.append((way, "integer" if isinstance(entry, int) else "float"))
        elif kind(entry) in names:
            found.append((way, names[kind(entry)]))
        found += typed(entry, way)
    return found


def distance_km(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Great-circle distance from the chord between two points on a sphere."""
    ends = []
    for degrees in ((lat, lon), (other_lat, other_lon)):
        north, east = map(math.radians, degrees)
        ends.append(
            (math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north))
        )
    return 2 * 6371.0088 * math.asin(min(1.0, math.dist(*ends) / 2))
