"""One rule about one value, in the SQL of SQLite.

Rules of this module:

* a condition is 0 or 1, never NULL, so that NOT is what it is in Python;
* every literal and every name inside a map is a parameter;
* values are compared under a guard of their JSON type, so SQLite never converts one;
* what has no word in SQL calls the Python function of ``flowkit.query.meaning``
  (``store/functions.py``).

``{}`` in a template stands for the value; nothing else in a template is in braces.
"""

# ruff: noqa: S608 - every part of a statement here is a text of ours; what users wrote is a parameter

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from flowkit import limits
from flowkit.query import meaning, patterns
from flowkit.query.nodes import (
    UNITS_KM,
    Age,
    Comparison,
    Contains,
    Exists,
    In,
    Modulo,
    Regex,
    Within,
    Zip,
    literal_key,
)
from flowkit.query.places import Places, place_of

__all__ = [
    "NUMBER",
    "Inexact",
    "Parameters",
    "Rules",
    "Spot",
    "conjunction",
    "cost",
    "disjunction",
    "sql_op",
]

NUMBER = "('integer','real')"
"""The JSON types of numbers."""

_CONTAINS_MAX = 100
"""Most values of a CONTAINS in SQL; each looks through the whole array."""

_SAFE_FLOAT = 2.0**53
"""Whole numbers up to here are exact as doubles."""

_DEGREES_MARGIN = 1e-6
"""Added to a band of latitude, ten centimetres, so that no rounding can cut off a place."""

_MIRRORED = {"==": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Inexact(Exception):
    """SQL cannot say exactly the same: Python does this one. Not an error."""


class Parameters:
    """The parameters of one statement, each numbered once: ``?1``, ``?2`` …"""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._names: dict[tuple[type, object], str] = {}

    def add(self, value: Any) -> str:
        """The name of a parameter with that value.

        Raises:
            Inexact: SQLite cannot hold the value.
        """
        key = literal_key(value)
        name = self._names.get(key)
        if name is None:
            if isinstance(value, str) and not _is_text(value):
                raise Inexact
            if isinstance(value, int) and not limits.integer_min <= value <= limits.integer_max:
                raise Inexact
            self._values.append(value)
            name = self._names[key] = f"?{len(self._values)}"
        return name

    def of(self, statement: str) -> tuple[Any, ...]:
        """The values to bind to *statement*, which names some of the parameters.

        Those behind the last one named are left out, as SQLite demands; they are of conditions that
        were given up.
        """
        numbers = [int(number) for number in re.findall(r"\?([0-9]+)", statement)]
        return tuple(self._values[: max(numbers, default=0)])


class Spot:
    """One value inside a JSON column, as SQL expressions of its type, value, text and entries."""

    __slots__ = ("base", "each", "path", "text", "type", "value")

    def __init__(self, base: str, path: str) -> None:
        self.base = base
        self.path = path
        self.type = f"json_type({base}, {path})"
        self.value = f"({base} ->> {path})"
        self.text = f"({base} -> {path})"
        self.each = f"json_each({base}, {path})"

    @classmethod
    def fixed(cls, type_: str, value: str) -> Spot:
        """A value outside of any JSON column: an expression of its type and one of itself."""
        spot = cls("NULL", "NULL")
        spot.type, spot.value, spot.text = type_, value, "NULL"
        return spot


Test = Callable[[Spot], str]
"""The condition that a rule puts on the value at one spot."""


class Rules:
    """The rules about one value, with the parameters and the surroundings of one statement."""

    def __init__(self, parameters: Parameters, *, now_ms: int, places: Places | None) -> None:
        self.add = parameters.add
        self.now_ms = now_ms
        self.places = places
        self._aliases = 0

    def alias(self) -> str:
        """A new name for the rows of ``json_each`` or ``json_tree``."""
        self._aliases += 1
        return f"j{self._aliases}"

    def test(self, node: Any) -> Test:
        """The condition of a rule about the value at a spot; the rule has no ``!=`` and no null."""
        match node:
            case Contains():
                return lambda spot: self.contains(node, spot)
            case Within():
                return self.within(node)
            case Exists():
                return lambda spot: f"ifnull({spot.type} <> 'null', 0)"
            case Age():
                return self.age(node)
        by_type = self.by_type(node)
        return lambda spot: self.candidate(spot, by_type)

    def by_type(self, node: Any) -> dict[str, str]:
        """JSON type to template of a rule about candidates; other types fail it."""
        match node:
            case Comparison():
                return self.compared(node.op, node.value)
            case In():
                return self.one_of(meaning.Wanted(node.values))  # type: ignore[arg-type]  # known
            case Regex():
                return {"text": self.regex(node, "{}")}
            case Modulo():
                return self.modulo(node)
        raise Inexact

    def candidate(self, spot: Spot, by_type: Mapping[str, str]) -> str:
        """A condition on the value, or on any entry of an array (4.5.3)."""
        if not by_type:
            return "0"
        return (
            f"(CASE {spot.type} {_cases(by_type, spot.value)}"
            f" WHEN 'array' THEN {self.some_entry(spot, by_type)} ELSE 0 END)"
        )

    def some_entry(self, spot: Spot, by_type: Mapping[str, str]) -> str:
        """A condition on any entry of the array at a spot."""
        alias = self.alias()
        return (
            f"EXISTS (SELECT 1 FROM {spot.each} AS {alias}"
            f" WHERE CASE {alias}.type {_cases(by_type, f'{alias}.value')} ELSE 0 END)"
        )

    def compared(self, op: str, value: Any) -> dict[str, str]:
        """A comparison with a literal; null and booleans have no order."""
        if value is None or isinstance(value, bool):
            return {_json_type(value): "1"} if op == "==" else {}
        condition = f"({{}} {sql_op(op)} {self.add(value)})"
        if isinstance(value, str):
            return {"text": condition}
        return {"integer": condition, "real": condition}

    def one_of(self, wanted: meaning.Wanted) -> dict[str, str]:
        """Equality with one of several literals."""
        by_type: dict[str, str] = {_json_type(value): "1" for value in wanted.others}
        if wanted.strings:
            by_type["text"] = f"({{}} IN ({self._listed(wanted.strings)}))"
        if wanted.numbers:
            condition = f"({{}} IN ({self._listed(wanted.numbers)}))"
            by_type |= {"integer": condition, "real": condition}
        return by_type

    def _listed(self, values: Collection[Any]) -> str:
        return ", ".join(self.add(value) for value in sorted(values))

    def regex(self, node: Any, text: str) -> str:
        """A search of the pattern of *node* in an expression; 0 for what is no text."""
        patterns.compile(node.pattern, node.flags)
        return f"fk_regex({self.add(node.pattern)}, {self.add(node.flags)}, {text})"

    def modulo(self, node: Any) -> dict[str, str]:
        """A remainder with the sign of the dividend."""
        divisor, remainder = self.add(node.divisor), self.add(node.remainder)
        called = f"fk_modulo({{}}, {divisor}, {remainder})"
        # SQLite's % is for whole numbers; there it has the sign of the dividend, as we need it.
        exact = isinstance(node.divisor, int) and node.divisor != 0
        whole = f"(({{}} % {divisor}) = {remainder})" if exact else called
        return {"integer": whole, "real": called}

    def contains(self, node: Any, spot: Spot) -> str:
        """All of the values: entries of an array, parts of a text, keys of a map."""
        wanted = meaning.Wanted(node.values)
        values = (*sorted(wanted.strings), *sorted(wanted.numbers), *wanted.others)
        if len(values) > _CONTAINS_MAX:
            raise Inexact
        if not values:
            return f"ifnull({spot.type} <> 'null', 0)"
        entries = [self.some_entry(spot, self.one_of(meaning.Wanted([one]))) for one in values]
        cases = f"WHEN 'array' THEN {conjunction(entries)}"
        if len(wanted.strings) == len(values):
            cases += f" WHEN 'text' THEN {self.substrings(spot.value, wanted)}"
            cases += f" WHEN 'object' THEN {self._keys(spot, wanted)}"
        return f"(CASE {spot.type} {cases} ELSE 0 END)"

    def substrings(self, value: str, wanted: meaning.Wanted) -> str:
        """All of the strings are parts of a text."""
        return conjunction(
            [f"(instr({value}, {self.add(part)}) > 0)" for part in sorted(wanted.strings)]
        )

    def _keys(self, spot: Spot, wanted: meaning.Wanted) -> str:
        named = [(self.alias(), self.add(name)) for name in sorted(wanted.strings)]
        return conjunction(
            [
                f"EXISTS (SELECT 1 FROM {spot.each} AS {alias} WHERE {alias}.key = {name})"
                for alias, name in named
            ]
        )

    def within(self, node: Any) -> Test:
        """A place, as a map or as an array of two numbers, near enough to another."""
        place = node.place
        centre = place_of(self.places, place.code) if isinstance(place, Zip) else place
        radius_km = node.distance * UNITS_KM[node.unit]
        given = ", ".join(self.add(float(number)) for number in (*centre, radius_km))
        # No way is shorter than the one along the meridian: most rows need no haversine.
        north = math.degrees(radius_km / meaning.EARTH_RADIUS_KM) + _DEGREES_MARGIN
        band = f"- {self.add(float(centre[0]))}) <= {self.add(north)}"

        def near(spot: Spot, lat: str, lon: str) -> str:
            ways = [f"({spot.path} || {self.add(step)})" for step in (lat, lon)]
            types = " AND ".join(f"json_type({spot.base}, {way}) IN {NUMBER}" for way in ways)
            values = [f"({spot.base} ->> {way})" for way in ways]
            called = f"fk_near({', '.join(values)}, {given})"
            return f"(CASE WHEN {types} AND abs({values[0]} {band} THEN {called} ELSE 0 END)"

        return lambda spot: (
            f"(CASE {spot.type} WHEN 'object' THEN {near(spot, '.lat', '.lon')} WHEN 'array' THEN"
            f" json_array_length({spot.base}, {spot.path}) = 2 AND {near(spot, '[0]', '[1]')}"
            " ELSE 0 END)"
        )

    def age(self, node: Any) -> Test:
        """Now minus a number, compared with milliseconds."""
        integer = self.age_of_integer(node)
        real = f"(({self.add(self.now_ms)} - {{}}) {sql_op(node.op)} {self.add(node.ms)})"
        by_type = {"integer": integer, "real": real}
        return lambda spot: f"(CASE {spot.type} {_cases(by_type, spot.value)} ELSE 0 END)"

    def age_of_integer(self, node: Any) -> str:
        """The age of a whole number, as a comparison of the number itself: nothing can overflow."""
        op, age = node.op, node.ms
        if isinstance(age, float):
            if abs(age) > _SAFE_FLOAT:
                raise Inexact
            if not age.is_integer():
                if op == "==":
                    return "0"
                op, age = ("<=", math.floor(age)) if op in ("<", "<=") else (">=", math.ceil(age))
        return f"({{}} {_MIRRORED[op]} {self.add(self.now_ms - int(age))})"


def conjunction(conditions: Sequence[str]) -> str:
    """All of some conditions; ``1`` for none."""
    return _joined(conditions, "AND") if conditions else "1"


def cost(condition: str) -> int:
    """Roughly what a condition costs on one row: calls of Python, then loops, then look-ups."""
    called, loops = condition.count("fk_"), condition.count("json_each")
    trees, ways = condition.count("json_tree"), condition.count("elems")
    return 300 * trees + 30 * called + 3 * loops + ways


def disjunction(conditions: Sequence[str]) -> str:
    """Any of some conditions; ``0`` for none."""
    return _joined(conditions, "OR") if conditions else "0"


def _joined(conditions: Sequence[str], word: str) -> str:
    """A balanced tree: SQLite bounds the depth of an expression, not its size."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return f"({_joined(conditions[:half], word)} {word} {_joined(conditions[half:], word)})"


def sql_op(op: str) -> str:
    """The SQL operator of a comparison; a table, so that no other text gets into a statement."""
    return {"==": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}[op]


def _cases(by_type: Mapping[str, str], value: str) -> str:
    return " ".join(f"WHEN '{t}' THEN {text.replace('{}', value)}" for t, text in by_type.items())


def _json_type(value: bool | None) -> str:
    return "null" if value is None else "true" if value else "false"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
