"""The one form of everything a filter holds: values, names, patterns, places.

``build.py`` and ``parse.py`` bring what they were given to its one form here (and chains in
``chains.py``), so that ``parse(render(f)) == f`` is plain equality. Rules:

* a function takes what a user wrote and returns what a node may hold, or raises ``FilterError``
  with the value and the way out; a value beyond a bound of ``limits.py`` raises ``LimitError``;
* whole numbers fit 64 bits (protocol 2.1), floats are finite, a bool is never taken for a number;
* an aware ``datetime`` is its milliseconds since 1970, a ``timedelta`` its milliseconds, both cut
  down to whole ones; an enum stands for its value; a ``Decimal`` is taken only if nothing is lost;
* two halves of a surrogate pair become the one character they stand for; half a pair stays;
* a pattern is kept without the escape of slashes, and its raw newlines are written ``\\n``.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from flowkit import limits
from flowkit.errors import FilterError, LimitError
from flowkit.query.nodes import (
    KEYWORDS,
    REGEX_FLAGS,
    UNITS_KM,
    Filter,
    Literal,
    Path,
    Zip,
)

__all__ = [
    "divisor",
    "dotted",
    "duration_ms",
    "flags",
    "collected",
    "is_bare_zip",
    "is_collection",
    "is_identifier",
    "literal",
    "number",
    "pattern",
    "place",
    "radius",
    "remainder",
    "shown",
    "text",
    "too_many_values",
    "type_name",
    "unit",
    "values",
    "zip_code",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_ZIP = re.compile(r"[^\W_](?:[^\W_]|-)*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REWRITTEN = re.compile(r"\n|\\(?:Q.*?(?:\\E|\Z)|.|\Z)", re.DOTALL)
_PIECES = {"\n": r"\n", "\\\n": r"\n", r"\/": "/"}
_FLAG_LETTERS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}


def shown(value: object, chars: int = 80) -> str:
    """The ``repr`` of *value*, cut to *chars* characters, for an error."""
    try:
        said = repr(value)
    except ValueError:
        # Python refuses to write out whole numbers of thousands of digits.
        said = f"a very long {type(value).__name__}"
    return said if len(said) <= chars else said[: chars - 1] + "…"


# --- values ------------------------------------------------------------------------------------


def literal(value: Any) -> Literal:
    """What a rule may compare with: None, bool, int, float or str (protocol 4.3)."""
    kind = type(value)
    if kind is str:
        return text(value)
    if value is None or kind is bool:
        return value  # type: ignore[no-any-return]
    if isinstance(value, enum.Enum):
        return literal(value.value)
    if isinstance(value, str):
        return text(str.__str__(value))
    if isinstance(value, (datetime, timedelta)):
        return _whole(_milliseconds(value))
    if type(value).__name__ in ("bool", "bool_") and type(value).__module__ == "numpy":
        return bool(value)
    return number(value)


def number(value: Any, what: str | None = None) -> int | float:
    """A finite float or a whole number of 64 bits; booleans and text are refused.

    *what* says in an error which number is needed; without it any value would do there.
    """
    kind = type(value)
    if kind is int:
        return _whole(value)
    if kind is float:
        return _finite(value)
    if isinstance(value, enum.Enum):
        return number(value.value, what)
    if isinstance(value, int) and not isinstance(value, bool):
        return _whole(int(value))
    if isinstance(value, float):
        return _finite(float(value))
    if isinstance(value, Decimal):
        return _exact(value)
    if _is_numpy_number(value):
        return number(value.item(), what)
    if what is None:
        raise _no_literal(value)
    raise FilterError(f"{what} is {shown(value)}, a number is needed")


def duration_ms(value: Any, what: str = "the age") -> int | float:
    """Milliseconds, from a number of them or a ``timedelta``."""
    if isinstance(value, timedelta):
        return _whole(_milliseconds(value))
    if isinstance(value, datetime):
        raise FilterError(
            f"{what} is the moment {value.isoformat()}, a duration is needed",
            hint="compare the member with a moment: mem.creationDate > moment",
        )
    return number(value, what)


def text(value: str) -> str:
    """*value* with surrogate pairs joined."""
    if value.isascii() or not _SURROGATE.search(value):
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def is_collection(given: object) -> bool:
    """Whether *given* holds values rather than being one; a text is one."""
    return isinstance(given, Iterable) and not isinstance(given, (str, bytes, bytearray))


def collected(given: Any, *, word: str = "all_of") -> Collection[Any]:
    """The entries of an iterable, which may be used up by this; not many more than the bound."""
    if isinstance(given, Mapping):
        raise FilterError(
            f"{word} was given the mapping {shown(given)}",
            hint="say what is meant: .keys() or .values()",
        )
    if isinstance(given, (list, tuple, set, frozenset)):
        return given
    return tuple(islice(given, limits.filter_values_max + 1))


def values(given: Collection[Any]) -> tuple[Literal, ...]:
    """The literals of a list after IN or CONTAINS; a set is put in a fixed order."""
    if len(given) > limits.filter_values_max:
        raise too_many_values(len(given))
    found = [literal(value) for value in given]
    if isinstance(given, AbstractSet):
        found.sort(key=lambda value: (type(value).__name__, repr(value)))
    return tuple(found)


def too_many_values(size: int) -> LimitError:
    """The error for *size* values in lists."""
    return LimitError(
        "the sum of the IN and CONTAINS lists",
        size=size,
        limit=limits.filter_values_max,
        unit="values",
    )


def _whole(value: int) -> int:
    if limits.integer_min <= value <= limits.integer_max:
        return value
    raise FilterError(
        f"the whole number {value if abs(value) < 10**40 else '(very long)'} does not fit 64 bits",
        hint="whole numbers reach from -2**63 to 2**63 - 1",
    )


def _finite(value: float) -> float:
    if math.isfinite(value):
        return value
    raise FilterError(
        f"{value!r} is not a number that can be compared with",
        hint="ask for a missing value with == None or NOT(EXISTS(…))",
    )


def _exact(value: Decimal) -> int | float:
    if value.is_finite():
        if value.as_tuple().exponent >= 0 and value.adjusted() < 19:  # type: ignore[operator]
            return _whole(int(value))
        nearest = float(value)
        if math.isfinite(nearest) and Decimal(nearest) == value:
            return nearest
    raise FilterError(
        f"{value!r} is neither a whole number of 64 bits nor exactly a float",
        hint="choose the rounding yourself: float(value)",
    )


def _milliseconds(value: datetime | timedelta) -> int:
    if isinstance(value, timedelta):
        return value // _MILLISECOND
    if value.utcoffset() is None:
        raise FilterError(
            f"the datetime {value.isoformat()} has no time zone",
            hint="say which: value.replace(tzinfo=UTC) or value.astimezone()",
        )
    return (value - _EPOCH) // _MILLISECOND


def _is_numpy_number(value: Any) -> bool:
    """Whether *value* is a numpy scalar that ``item()`` turns into the number it shows."""
    kind = type(value)
    return (
        kind.__module__ == "numpy"
        and kind.__name__ not in ("datetime64", "timedelta64", "ndarray")
        and hasattr(kind, "item")
    )


def _no_literal(value: object) -> FilterError:
    """The refusal of a value of another type, with the way out for the likely ones."""
    hint = (
        "values are None, bool, int, float, str, datetime, timedelta, Decimal or an enum of these"
    )
    if isinstance(value, Filter):
        hint = "put parentheses around each comparison: (mem.a == 1) & (mem.b == 2)"
    elif isinstance(value, (bytes, bytearray)):
        hint = "decode it: value.decode()"
    elif isinstance(value, date):
        hint = "a day is no moment: use a datetime with a time zone"
    elif isinstance(value, (list, tuple, AbstractSet)):
        hint = "use .IN(…) for one of several, .CONTAINS(…) for a list that holds them"
    return FilterError(
        f"{shown(value)}, of the type {type(value).__name__}, is no value to compare with",
        hint=hint,
    )


# --- names -------------------------------------------------------------------------------------


def is_identifier(segment: str) -> bool:
    """Whether *segment* may stand bare in a filter text (``identifier`` of protocol 4.4)."""
    if segment.isascii():
        return _IDENTIFIER.fullmatch(segment) is not None
    first = segment[0]
    return (first.isalpha() or first in "_$") and all(
        letter.isalpha() or letter in "0123456789_$-" for letter in segment
    )


def dotted(name: str) -> Path:
    """The path that *name* means, split at its dots: ``"elems.temp"``."""
    path = tuple(text(name).split("."))
    if not all(path):
        raise FilterError(
            f"{shown(name)} names no member: a part of it is empty",
            hint="a name with dots of its own is one step: mem['elems', 'a.b'], elems[\"a.b\"]",
        )
    return path


def type_name(name: object) -> str:
    """The name of a data type after HAS (protocol 2.2)."""
    if not isinstance(name, str) or not name or not is_identifier(name) or name in KEYWORDS:
        raise FilterError(
            f"HAS needs the name of a data type, not {shown(name)}", hint="HAS('date')"
        )
    return str.__str__(name)


# --- patterns ----------------------------------------------------------------------------------


def flags(given: object) -> str:
    """Regex flags in their fixed order, each once."""
    if given == "" or given == "i":
        return str(given)
    if isinstance(given, re.RegexFlag):
        given = _letters(given)
    if not isinstance(given, str):
        raise FilterError(
            f"regex flags are letters, not {shown(given)}", hint="write .re('x', 'i')"
        )
    unknown = sorted(set(given) - set(REGEX_FLAGS))
    if unknown:
        raise FilterError(
            f"unknown regex flag {shown(''.join(unknown))}",
            hint=f"the flags are {', '.join(REGEX_FLAGS)}",
        )
    return "".join(letter for letter in REGEX_FLAGS if letter in given)


def pattern(given: object, given_flags: object = "") -> tuple[str, str]:
    """A pattern and its flags, from text or from a compiled ``re.Pattern``."""
    if isinstance(given, re.Pattern):
        if given_flags not in ("", 0):
            raise FilterError(
                f"the compiled pattern {shown(given.pattern)} has flags of its own",
                hint="give them to re.compile()",
            )
        given_flags = flags(re.RegexFlag(given.flags))
        given = given.pattern
        if "i" in given_flags and isinstance(given, str) and not given.isascii():
            given_flags += "u"  # Python's own i knows all letters
    if not isinstance(given, str):
        raise FilterError(
            f"a pattern is text, not {shown(given)}",
            hint="write .re('^a') or .re(re.compile('^a'))",
        )
    letters = flags(given_flags)
    return _pattern_text(text(str.__str__(given)), verbose="x" in letters), letters


def _letters(given: re.RegexFlag) -> str:
    """The letters of ``re.I`` and the like."""
    left = given & ~re.UNICODE
    letters = ""
    for flag, letter in _FLAG_LETTERS.items():
        if left & flag:
            letters += letter
            left &= ~flag
    if left:
        raise FilterError(
            f"the regex flag {left!r} has no letter in a filter", hint="use i, m, s or x"
        )
    return letters


def _pattern_text(source: str, *, verbose: bool) -> str:
    """*source* without escaped slashes, raw newlines and ``\\Q…\\E``: all can be said otherwise.

    A quotation is opened because the wire cannot tell ``\\Q\\/\\E`` from ``\\Q/\\E``.
    """
    if len(source) > limits.regex_pattern_chars_max:
        raise LimitError(
            "the regular expression",
            size=len(source),
            limit=limits.regex_pattern_chars_max,
            unit="characters",
        )
    if _SURROGATE.search(source):
        raise FilterError(f"the pattern {shown(source)} holds half a surrogate pair")
    if verbose and "\n" in source:
        raise FilterError(
            "a pattern with the flag x cannot have more than one line",
            hint="write it in one line, without comments",
        )
    if "\\" not in source and "\n" not in source:
        return source
    return _REWRITTEN.sub(_rewritten, source)


def _rewritten(found: re.Match[str]) -> str:
    """A raw newline, an escape or a quotation of a pattern as it is kept."""
    piece = found[0]
    if piece == "\\":
        raise FilterError(
            f"the pattern {shown(found.string)} ends with a lone backslash",
            hint="a backslash is written \\\\",
        )
    if piece[1:2] == "Q":
        return _quoted(piece[2:].removesuffix(r"\E"))
    return _PIECES.get(piece, piece)


def _quoted(plain: str) -> str:
    """A pattern that matches *plain* and nothing else, also inside a character class."""
    escaped = (c if c.isalnum() or c in "_/" or not c.isascii() else "\\" + c for c in plain)
    return "".join(escaped).replace("\\\n", r"\n")


# --- places ------------------------------------------------------------------------------------


def unit(given: object) -> str:
    """A unit of WITHIN in upper case."""
    name = given.upper() if isinstance(given, str) else None
    if name not in UNITS_KM:
        raise FilterError(
            f"unknown unit {shown(given)}", hint=f"the units are {', '.join(UNITS_KM)}"
        )
    return str(name)


def radius(given: Any) -> int | float:
    """The distance of WITHIN: a number, not negative."""
    distance = number(given, "the distance")
    if distance < 0:
        raise FilterError(f"the distance {distance} is negative")
    return distance


def place(given: Any) -> tuple[int | float, int | float]:
    """Latitude and longitude in decimal degrees."""
    if type(given) is not tuple and (
        isinstance(given, (str, bytes, Mapping, AbstractSet)) or not isinstance(given, Iterable)
    ):
        raise FilterError(
            f"a place is (latitude, longitude), not {shown(given)}", hint="coords=(59.91, 10.75)"
        )
    both = tuple(given)
    if len(both) != 2:
        raise FilterError(
            f"a place is (latitude, longitude), not {len(both)} numbers",
            hint="coords=(59.91, 10.75)",
        )
    latitude, longitude = number(both[0], "the latitude"), number(both[1], "the longitude")
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise FilterError(
            f"no place on earth has latitude {latitude} and longitude {longitude}",
            hint="the latitude comes first, both in degrees",
        )
    return latitude, longitude


def zip_code(given: object) -> Zip:
    """A postal code from text or a whole number."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        given = str(int(given))
    if not isinstance(given, str) or not given.strip():
        raise FilterError(f"{shown(given)} is no postal code", hint="zip='01002'")
    return Zip(text(str.__str__(given)))


def is_bare_zip(code: str) -> bool:
    """Whether *code* may stand unquoted after ``ZIP=``."""
    return _ZIP.fullmatch(code) is not None and all(
        letter.isalpha() or letter in "0123456789-" for letter in code
    )


# --- remainders --------------------------------------------------------------------------------


def divisor(given: Any) -> int | float:
    """The number after ``%``: any but 0."""
    found = number(given, "the divisor")
    if found == 0:
        raise FilterError("a remainder of a division by 0 does not exist")
    return found


def remainder(given: Any) -> int | float:
    """The number that a remainder is compared with."""
    return number(given, "the remainder")
