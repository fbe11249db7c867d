"""What the rules of a filter mean for plain values: one function each, shared by every evaluator.

``match.py`` generates code that answers the common cases inline and calls these functions for the
rest; ``server/store/functions.py`` registers the same functions for SQL. So the meaning of protocol
4.5 is written here once.

Rules of this module:

* a **found value** is what a path leads to: a plain value, ``ABSENT``, or ``Many`` when the path
  went through an array and ended at several values (4.5.0);
* values are JSON values; a tuple counts as a list. Anything else is unequal to everything;
* nothing here raises because of a value, whatever it is.

Source: protocol 4.5, 2.2 (types), 1.4.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from flowkit.query.nodes import Path

__all__ = [
    "ABSENT",
    "EARTH_RADIUS_KM",
    "DROP_MEMBERS",
    "FLAT",
    "NUMBERS",
    "ORDERINGS",
    "SECRETS",
    "Many",
    "Wanted",
    "any_age",
    "any_equal",
    "any_in",
    "any_modulo",
    "any_ordered",
    "any_regex",
    "any_within",
    "contains",
    "distance_km",
    "ends",
    "exists",
    "has",
    "members_equal",
    "members_ordered",
    "modulo_is",
    "near",
    "place_in",
    "rank",
    "resolve",
    "same",
    "some_string",
    "walk",
]

EARTH_RADIUS_KM: Final = 6371.0088
"""The mean radius of the earth (4.5.11)."""

DROP_MEMBERS: Final = frozenset(
    [
        "id",
        "flowId",
        "path",
        "creationDate",
        "lastEditDate",
        "creatorId",
        "lastEditorId",
        "version",
        "fhash",
        "location",
        "parentDropId",
        "elems",
    ]
)
"""First segments that mean a member of the Drop itself; any other means an element (4.2)."""

SECRETS: Final = frozenset(["masterToken", "tokenString", "password"])
"""Members that MATCHES never looks at (4.5.7)."""


class _Absent(Enum):
    """The type of ``ABSENT``."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent.ABSENT
"""Stands for a member that is not there; unlike None, which is a value."""


class Many(tuple[Any, ...]):
    """Two or more values at the ends of one path that went through an array."""

    __slots__ = ()


FLAT: Final = frozenset([str, int, float, bool, type(None), dict, _Absent])
"""Classes of found values that are at most one candidate and need no opening."""

NUMBERS: Final = frozenset([int, float])
"""Classes of numbers; bool is none of them."""

ORDERINGS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""The four orderings."""

Search = Callable[[Any, str], bool]
"""``search(compiled, text)``: whether a compiled pattern is found in a text."""


# -- from a path to values -------------------------------------------------------------------------


def resolve(path: Path, resource: str) -> Path:
    """The path from the root of an object: on a Drop a bare name is an element (4.2)."""
    if resource != "drop" or path[0] in DROP_MEMBERS:
        return path
    return ("elems", *path)


def walk(value: Any, segments: Path) -> Any:
    """The found value at *segments* below a found value."""
    reached: Sequence[Any] = value if isinstance(value, Many) else (value,)
    for segment in segments:
        reached = [entry for held in reached for entry in _step(held, segment)]
        if not reached:
            return ABSENT
    return reached[0] if len(reached) == 1 else Many(reached)


def _step(value: Any, segment: str) -> Sequence[Any]:
    """The values one segment further: a map's key, an array's index, or the key in its maps."""

    if isinstance(value, dict):
        return (value[segment],) if segment in value else ()
    if not isinstance(value, (list, tuple)):
        return ()
    if is_index(segment):
        # More digits than any array has entries: int() refuses thousands of them.
        at = int(segment) if len(segment) < 19 else len(value)
        return value[at : at + 1]
    return [entry[segment] for entry in value if isinstance(entry, dict) and segment in entry]


def is_index(segment: str) -> bool:
    """Whether *segment* indexes an array: ASCII digits only (4.2)."""
    return segment.isascii() and segment.isdigit()


def ends(found: Any) -> Sequence[Any]:
    """The values that a path ended at, arrays unopened."""
    if isinstance(found, Many):
        return found
    return () if found is ABSENT else (found,)


def candidates(found: Any) -> Iterator[Any]:
    """The values that a rule may choose from: each end, an array opened one level."""
    for value in ends(found):
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


# -- equality and order ----------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """Whether *value* is a number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    """Deep equality: 1 equals 1.0, True equals only True, at any depth."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and len(one) == len(other)
            and all(key in other and same(value, other[key]) for key, value in one.items())
        )
    if isinstance(one, (list, tuple)):
        return (
            isinstance(other, (list, tuple))
            and len(one) == len(other)
            and all(map(same, one, other))
        )
    if is_number(one):
        return is_number(other) and bool(one == other)
    if isinstance(one, str):
        return isinstance(other, str) and one == other
    return one is other and one is not ABSENT


def any_equal(found: Any, literal: Any) -> bool:
    """``m == literal``: some candidate equals it; an absent member equals null."""
    if found is ABSENT:
        return literal is None
    return any(same(entry, literal) for entry in candidates(found))


def any_ordered(found: Any, op: str, literal: Any) -> bool:
    """``m < literal`` and the like: some candidate of the literal's kind is in that order."""
    return any(_in_order(entry, op, literal) for entry in candidates(found))


def rank(value: Any) -> tuple[Any, ...]:
    """What *value* is ordered by (protocol 3.6): numbers, strings, false, true, everything else.

    Empty for null and absent, which come last in both directions; all others are alike.
    """
    if value is None or value is ABSENT:
        return ()
    if isinstance(value, bool):
        return (3 if value else 2, 0)
    if isinstance(value, int | float):
        return (0, value)
    return (1, value) if isinstance(value, str) else (4, 0)


def members_equal(one: Any, other: Any) -> bool:
    """``m1 == m2``: some end of one is deeply equal to some end of the other."""
    return any(same(left, right) for left in ends(one) for right in ends(other))


def members_ordered(one: Any, op: str, other: Any) -> bool:
    """``m1 < m2`` and the like: two numbers or two strings in that order."""
    return any(_in_order(left, op, right) for left in ends(one) for right in ends(other))


def _in_order(one: Any, op: str, other: Any) -> bool:
    comparable = (is_number(one) and is_number(other)) or (
        isinstance(one, str) and isinstance(other, str)
    )
    return comparable and ORDERINGS[op](one, other)


# -- the other rules -------------------------------------------------------------------------------


class Wanted:
    """The values of an IN or CONTAINS list, sorted by kind so that 1 and true never meet."""

    __slots__ = ("numbers", "others", "strings")

    def __init__(self, values: Sequence[Any]) -> None:
        self.strings = frozenset(value for value in values if isinstance(value, str))
        self.numbers = frozenset(value for value in values if is_number(value))
        self.others = frozenset(
            value for value in values if value is None or value is True or value is False
        )

    def holds(self, value: Any) -> bool:
        """Whether *value* equals one of the values."""
        if isinstance(value, str):
            return value in self.strings
        if value is None or isinstance(value, bool):
            return value in self.others
        return is_number(value) and value in self.numbers


def any_in(found: Any, wanted: Wanted) -> bool:
    """``m IN […]``: some candidate equals one of the values."""
    return any(wanted.holds(entry) for entry in candidates(found))


def contains(found: Any, wanted: Wanted) -> bool:
    """``m CONTAINS […]``: array, string or map holds all of the values (4.5.4, 4.5.5)."""
    return any(_holds_all(value, wanted) for value in ends(found))


def _holds_all(value: Any, wanted: Wanted) -> bool:
    if isinstance(value, (list, tuple)):
        return (
            wanted.strings <= {entry for entry in value if isinstance(entry, str)}
            and wanted.numbers <= {entry for entry in value if is_number(entry)}
            and wanted.others
            <= {entry for entry in value if entry is None or isinstance(entry, bool)}
        )
    if not wanted.strings and not wanted.numbers and not wanted.others:
        return value is not None
    if wanted.numbers or wanted.others:
        return False
    if isinstance(value, (str, dict)):
        return all(text in value for text in wanted.strings)
    return False


def exists(found: Any) -> bool:
    """``EXISTS m``: present and not null."""
    return any(value is not None for value in ends(found))


def modulo_is(value: Any, divisor: float, remainder: float) -> bool:
    """``value % divisor == remainder`` with the sign of the dividend, as in Java (4.5.12).

    Two whole numbers are divided exactly; otherwise both are doubles. Division by zero has no
    result, which equals nothing.
    """
    if not is_number(value) or divisor == 0:
        return False
    if isinstance(value, int) and isinstance(divisor, int):
        left = abs(value) % abs(divisor)
        return (left if value >= 0 else -left) == remainder
    try:
        return math.fmod(value, divisor) == remainder
    except (OverflowError, ValueError):  # a number beyond a double, or infinite
        return False


def any_modulo(found: Any, divisor: float, remainder: float) -> bool:
    """``m % divisor == remainder``: of some candidate."""
    return any(modulo_is(entry, divisor, remainder) for entry in candidates(found))


def any_age(found: Any, now_ms: int, op: str, age_ms: float) -> bool:
    """``AGE('m') op ms``: now minus some end that is a number, in that relation."""
    compare = operator.eq if op == "==" else ORDERINGS[op]
    return any(is_number(end) and compare(now_ms - end, age_ms) for end in ends(found))


def any_regex(found: Any, compiled: Any, search: Search) -> bool:
    """``m =~ /…/``: some string candidate holds the pattern; nothing is converted (4.5.6)."""
    return any(isinstance(entry, str) and search(compiled, entry) for entry in candidates(found))


def some_string(obj: Mapping[str, Any], resource: str, compiled: Any, search: Search) -> bool:
    """``MATCHES /…/``: the pattern is found in some text that the rule may see (4.5.7)."""
    if resource == "drop":
        shown: list[Any] = [obj.get("elems"), obj.get("fhash"), obj.get("path")]
    else:
        shown = [value for name, value in obj.items() if name not in SECRETS]
    return any(search(compiled, text) for text in _strings(shown))


def _strings(value: Any) -> Iterator[str]:
    """Every string inside *value*, at any depth; keys are none."""
    pending = [value]
    while pending:
        entry = pending.pop()
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            pending.extend(entry.values())
        elif isinstance(entry, (list, tuple)):
            pending.extend(entry)


def distance_km(lat: Any, lon: Any, centre: tuple[float, float]) -> float:
    """The great circle between two places in degrees (4.5.11); infinite if one is no place.

    Beyond 90 degrees of latitude or 180 of longitude there is no place, as for a Drop's own
    ``location`` (2.4).
    """
    if not is_number(lat) or not is_number(lon):
        return math.inf
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return math.inf
    here, there = math.radians(lat), math.radians(centre[0])
    chord = (
        math.sin((there - here) / 2) ** 2
        + math.cos(here)
        * math.cos(there)
        * math.sin((math.radians(centre[1]) - math.radians(lon)) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(min(math.sqrt(chord), 1.0))


def near(lat: Any, lon: Any, centre: tuple[float, float], radius_km: float) -> bool:
    """Whether two places lie at most *radius_km* apart."""
    return distance_km(lat, lon, centre) <= radius_km


def place_in(value: Any) -> tuple[Any, Any]:
    """Latitude and longitude of a map or of ``[lat, lon]``, as they are; None where missing."""
    if isinstance(value, dict):
        return value.get("lat"), value.get("lon")
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return value[0], value[1]
    return None, None


def any_within(found: Any, centre: tuple[float, float], radius_km: float) -> bool:
    """``m WITHIN …``: some end is a place, as a map or as ``[lat, lon]``, that lies near enough."""
    return any(near(*place_in(value), centre, radius_km) for value in ends(found))


# -- types -----------------------------------------------------------------------------------------


_WHOLE = frozenset(["integer", "long"])


def has(root: Any, types: Mapping[str, str] | None, type_name: str) -> bool:
    """``HAS t``: some element at any depth below *root* has that type (4.5.9).

    *types* maps the dotted way of an element (``elems.stats.temp``, ``elems.list.0``; a dot or
    backslash inside a name has a backslash before it) to its type. It is asked first; an element
    that it names has that type only.
    """
    wanted = _WHOLE if type_name in _WHOLE else frozenset([type_name])
    if types and any(name in wanted for name in types.values()):
        return True
    pending: list[tuple[str, Any]] = [("elems.", root)]
    while pending:
        at, value = pending.pop()
        for name, entry in _entries(value):
            below = at + name.replace("\\", "\\\\").replace(".", "\\.") if types else ""
            if not (types and below in types) and _inferred(entry) in wanted:
                return True
            if isinstance(entry, (dict, list, tuple)):
                pending.append((f"{below}.", entry))
    return False


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        for at, entry in enumerate(value):
            yield str(at), entry


def _inferred(value: Any) -> str | None:
    """The type of a plain value (2.1); null has none. ``integer`` also stands for ``long``."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    if isinstance(value, dict):
        return "map"
    return "list" if isinstance(value, (list, tuple)) else None
