"""Filters from Python operators: ``mem``, ``AGE``, ``EXISTS``, ``HAS``, ``MATCHES``, ``NOT``.

Rules:

* what is built here is a node of ``nodes.py`` and nothing else; the builder objects (``mem.a``,
  ``mem.a % 5``, ``AGE``) never get into one;
* whatever Python would silently read in another way than it looks raises (``misread.py``);
* a member has no attributes of its own but the four words ``re IN CONTAINS WITHIN``; every other
  name is the member below. An element that is called like one of the four is reached with
  brackets, ``mem['elems']['re']``; comparing the word itself (``mem.elems.re == 1``) raises;
* a value that is not known yet is kept as a ``Placeholder`` (``pending.py``).

Source: protocol 4.7, and the defects 42 to 56 of 13.2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Final, Generic, NoReturn, ParamSpec, overload

from flowkit import limits
from flowkit.errors import FilterError
from flowkit.query import chains, normal
from flowkit.query.misread import PARENTHESES, Misread, half, refuse_call, said
from flowkit.query.nodes import (
    Age,
    Comparison,
    Contains,
    Exists,
    Filter,
    Has,
    In,
    Matches,
    MemberComparison,
    Modulo,
    Path,
    Regex,
    Within,
)
from flowkit.query.pending import (
    has_placeholders,
    is_a,
    keep,
    keep_all,
    keep_pattern,
    keep_place,
    pending,
    resolve,
)

__all__ = [
    "AGE",
    "EXISTS",
    "HAS",
    "MATCHES",
    "NOT",
    "Member",
    "Misread",
    "all_of",
    "any_of",
    "as_filter",
    "has_placeholders",
    "mem",
    "path_of",
    "pending",
    "resolve",
]


def _kept_values(given: tuple[Any, ...], word: str) -> Any:
    """The values of IN and CONTAINS: several arguments, or one that holds them all."""
    if not given:
        raise FilterError(
            f".{word}() was given no value", hint=f"write .{word}(1, 2) or .{word}([1, 2])"
        )
    if len(given) == 1 and pending(given[0]):
        return keep_all(given[0], word)
    listed: Any = given
    if len(given) == 1 and normal.is_collection(given[0]):
        listed = normal.collected(given[0], word=word)
    for value in listed:
        if is_a(value, Member):
            raise Misread(
                f".{word}({value}) compares with a member", hint=f"any_of(m == {value!r}, …)"
            )
    return keep_all(listed, word)


# --- members -----------------------------------------------------------------------------------

_P = ParamSpec("_P")


class _Word(Generic[_P]):
    """A method of ``Member`` that can be called and nothing else."""

    def __init__(self, function: Callable[Concatenate[Member, _P], Filter]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, member: None, kind: type) -> _Word[_P]: ...
    @overload
    def __get__(self, member: Member, kind: type) -> Callable[_P, Filter]: ...
    def __get__(self, member: Member | None, kind: type) -> _Word[_P] | Callable[_P, Filter]:
        return self if member is None else _BoundWord(member, self.function)


@half
class _BoundWord:
    """``mem.a.re`` before the call; everything but the call is refused."""

    def __init__(self, member: Member, function: Callable[..., Filter]) -> None:
        self.__member = member
        self.__function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Filter:
        return self.__function(self.__member, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{self.__member!r}.{self.__function.__name__}"

    def _refuse_comparison(self, _: object) -> NoReturn:
        name = self.__function.__name__
        raise Misread(
            f"{self!r} is the word {name}, not a member",
            hint=f"an element of this name: {self.__member!r}[{name!r}]",
        )

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __mod__ = _refuse_comparison
    __getitem__ = _refuse_comparison
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse_comparison(name)


@half
class Member:
    """A member of the objects that are filtered: ``mem.elems.temp``, ``mem['elems']['odd name']``.

    Attributes and brackets go one level down. A text in brackets is split at its dots
    (``mem['elems.temp']``); several texts in brackets are one level each (``mem['elems', 'a.b']``);
    a whole number is an index into an array (``mem.elems.list[0]``).

    Comparisons (``== != < <= > >=``) with a value or another member make filters, as do the
    words ``re``, ``IN``, ``CONTAINS``, ``WITHIN`` and ``mem.a % 5 == 0``. Members are hashable by
    identity. Source: protocol 4.2, 4.7.
    """

    __slots__ = ("__path",)
    __path: Path

    def __init__(self, path: Path = ()) -> None:
        object.__setattr__(self, "_Member__path", path)

    def __getattr__(self, name: str) -> Member:
        if name.startswith("__") and name.endswith("__"):
            # Tools ask every object for such names; inventing a member for each would mislead them.
            raise AttributeError(name)
        return Member((*self.__path, normal.text(name)))

    def __getitem__(self, key: str | int | tuple[str | int, ...]) -> Member:
        return Member(self.__path + _segments(key))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise Misread(f"{self!r}.{name} = … assigns nothing", hint="compare with ==")

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return _compared(self.__path, "==", value)

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return _compared(self.__path, "!=", value)

    def __lt__(self, value: object) -> Filter:
        return _compared(self.__path, "<", value)

    def __le__(self, value: object) -> Filter:
        return _compared(self.__path, "<=", value)

    def __gt__(self, value: object) -> Filter:
        return _compared(self.__path, ">", value)

    def __ge__(self, value: object) -> Filter:
        return _compared(self.__path, ">=", value)

    def __mod__(self, divisor: object) -> Remainder:
        return Remainder(path_of(self), divisor)

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """A slip: a member has no methods but the four words."""
        refuse_call(self, self.__path[-1] if self.__path else "")

    __hash__ = object.__hash__

    @_Word
    def re(self, pattern: object, flags: object = "") -> Filter:
        """Some text of the member holds *pattern* (``=~``).

        Args:
            pattern: text, or a compiled ``re.Pattern``, whose flags count.
            flags: letters of ``imsgux``, or ``re.I`` and the like.
        """
        return Regex(path_of(self), *keep_pattern(pattern, flags))

    @_Word
    def IN(self, *values: object) -> Filter:  # noqa: N802 - the platform's own word
        """The member equals one of *values*, given one by one or as one iterable.

        ``.IN()`` is refused as a slip; ``.IN([])`` is the rule that nothing satisfies.
        """
        return In(path_of(self), _kept_values(values, "IN"))

    @_Word
    def CONTAINS(self, *values: object) -> Filter:  # noqa: N802 - the platform's own word
        """The list, text or map holds all of *values*, given one by one or as one iterable."""
        return Contains(path_of(self), _kept_values(values, "CONTAINS"))

    @_Word
    def WITHIN(  # noqa: N802 - the platform's own word
        self,
        distance: object,
        unit: str = "MILES",
        coords: object = None,
        *,
        zip: object = None,  # noqa: A002
    ) -> Filter:
        """The member is a location at most *distance* away from a place.

        Args:
            distance: in *unit*, not negative.
            unit: a key of ``UNITS_KM``.
            coords: ``(latitude, longitude)`` in decimal degrees.
            zip: a postal code instead of *coords*.
        """
        if (coords is None) == (zip is None):
            raise FilterError(
                "WITHIN needs one place, either coords or zip",
                hint="WITHIN(5, 'KM', coords=(59.91, 10.75)) or WITHIN(5, 'KM', zip='11201')",
            )
        place = keep_place(coords) if zip is None else keep(zip, normal.zip_code)
        if pending(unit):
            raise FilterError("the unit of WITHIN must be known when the filter is built")
        return Within(path_of(self), keep(distance, normal.radius), normal.unit(unit), place)

    def __repr__(self) -> str:
        from flowkit.query.render import path_source

        return path_source(self.__path)

    def __str__(self) -> str:
        from flowkit.query.render import path_text

        return path_text(self.__path) if self.__path else "mem"

    def __reduce__(self) -> tuple[type[Member], tuple[Path]]:
        return Member, (self.__path,)


mem: Final = Member()
"""Stands for the object that is filtered; its attributes stand for the object's members."""


def path_of(member: object) -> Path:
    """The path of a member, or of a name that is split at its dots."""
    if pending(member):
        raise FilterError(f"{said(member)} names no member", hint=_NAMES_ARE_KNOWN)
    if isinstance(member, Member):
        path: Path = object.__getattribute__(member, "_Member__path")
        if not path:
            raise FilterError("mem alone names no member", hint="write mem.name or mem['name']")
        return path
    if isinstance(member, str):
        return normal.dotted(member)
    raise FilterError(f"{said(member)} names no member", hint="write mem.name or 'name'")


_NAMES_ARE_KNOWN: Final = "a name must be known when the filter is built"


def _segments(key: object) -> Path:
    """What stands in the brackets of ``mem[…]`` as segments."""
    if pending(key):
        raise FilterError(f"mem[{said(key)}] names no member", hint=_NAMES_ARE_KNOWN)
    if isinstance(key, str):
        return normal.dotted(key)
    if isinstance(key, int) and not isinstance(key, bool):
        if key < 0:
            raise FilterError(f"the index {key} counts from the end, which a filter cannot")
        if key > limits.integer_max:
            raise FilterError(f"the index {said(key)} is beyond any array")
        return (str(int(key)),)
    if isinstance(key, tuple) and key:
        return tuple(normal.text(k) if is_a(k, str) else _segments(k)[0] for k in key)
    raise FilterError(f"mem[{said(key)}] names no member", hint="mem['a'], mem.a[0]")


def _compared(path: Path, op: str, value: object) -> Filter:
    if not path:
        raise FilterError("mem alone names no member", hint="write mem.name or mem['name']")
    if is_a(value, Member):
        return MemberComparison(path, op, path_of(value))
    if is_a(value, (_BoundWord, Remainder, AgeTerm)):
        raise Misread(f"{value!r} is no value to compare with")
    return Comparison(path, op, keep(value, normal.literal))


@half
class Remainder:
    """``mem.a % 5``, waiting for ``== 0`` or ``!= 0``."""

    def __init__(self, path: Path, divisor: object) -> None:
        self.__path = path
        self.__divisor = keep(divisor, normal.divisor)

    def __eq__(self, remainder: object) -> Filter:  # type: ignore[override]
        return self.__rule("==", remainder)

    def __ne__(self, remainder: object) -> Filter:  # type: ignore[override]
        return self.__rule("!=", remainder)

    def __rule(self, op: str, remainder: object) -> Filter:
        return Modulo(self.__path, self.__divisor, op, keep(remainder, normal.remainder))

    def __refuse_order(self, _: object) -> NoReturn:
        raise Misread(
            f"{self!r} can only be compared with == and !=",
            hint=f"list the remainders: any_of({self!r} == 0, {self!r} == 1)",
        )

    __lt__ = __le__ = __gt__ = __ge__ = __refuse_order
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{Member(self.__path)!r} % {self.__divisor!r}"


# --- the other rules ---------------------------------------------------------------------------


@half
class AgeTerm:
    """``AGE``: milliseconds since the object was created; ``AGE('m')``: since the moment in *m*.

    Compared with a number of milliseconds or a ``timedelta``: ``AGE < 600000``,
    ``AGE('lastEditDate') > timedelta(days=1)``. Source: protocol 4.5.10.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.__path = path

    def __call__(self, member: Member | str) -> AgeTerm:
        if self.__path is not None:
            raise FilterError(f"{self!r} has its member already")
        return AgeTerm(path_of(member))

    def __eq__(self, ms: object) -> Filter:  # type: ignore[override]
        return self.__rule("==", ms)

    def __ne__(self, ms: object) -> Filter:  # type: ignore[override]
        return self.__rule("!=", ms)

    def __lt__(self, ms: object) -> Filter:
        return self.__rule("<", ms)

    def __le__(self, ms: object) -> Filter:
        return self.__rule("<=", ms)

    def __gt__(self, ms: object) -> Filter:
        return self.__rule(">", ms)

    def __ge__(self, ms: object) -> Filter:
        return self.__rule(">=", ms)

    def __rule(self, op: str, ms: object) -> Filter:
        if is_a(ms, Member):
            raise Misread(
                f"{self!r} {op} {ms!r} compares with a member", hint="compare with a number"
            )
        return Age(self.__path, op, keep(ms, normal.duration_ms))

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "AGE" if self.__path is None else f"AGE({Member(self.__path)!r})"

    def __reduce__(self) -> tuple[type[AgeTerm], tuple[Path | None]]:
        return AgeTerm, (self.__path,)


AGE: Final = AgeTerm()
"""The age of the object in milliseconds; ``AGE('member')`` the age of a moment that it holds."""


def EXISTS(member: Member | str) -> Filter:  # noqa: N802 - the platform's own word
    """The member is present and not null."""
    return Exists(path_of(member))


def HAS(type_name: str) -> Filter:  # noqa: N802 - the platform's own word
    """Some element, at any depth, has this data type (protocol 2.2)."""
    if pending(type_name):
        raise FilterError("the type of HAS must be known when the filter is built")
    return Has(normal.type_name(type_name))


def MATCHES(pattern: object, flags: object = "") -> Filter:  # noqa: N802 - the platform's own word
    """Some text of the object holds *pattern* (protocol 4.5.7); arguments as for ``.re()``."""
    return Matches(*keep_pattern(pattern, flags))


def NOT(operand: Filter) -> Filter:  # noqa: N802 - the platform's own word
    """The objects that *operand* does not match; the same as ``~operand``."""
    return chains.negation(as_filter(operand))


def all_of(*filters: object) -> Filter:
    """Every one of *filters* (given one by one or as one iterable), of one that one.

    Raises:
        FilterError: there is none, or one of them is no filter.
    """
    return chains.conjunction(_operands(filters, "all_of"))


def any_of(*filters: object) -> Filter:
    """At least one of *filters* (given one by one or as one iterable), of one that one.

    Raises:
        FilterError: there is none, or one of them is no filter.
    """
    return chains.disjunction(_operands(filters, "any_of"))


def _operands(given: tuple[object, ...], word: str) -> list[Filter]:
    if len(given) == 1 and not pending(given[0]) and normal.is_collection(given[0]):
        given = tuple(normal.collected(given[0]))
    if not given:
        raise FilterError(f"{word}() of no filter has no meaning", hint="give at least one")
    return [as_filter(one) for one in given]


_HALVES: Final = (Member, Remainder, AgeTerm, _BoundWord)
"""What is half a rule and neither a value nor a filter."""


def as_filter(value: object) -> Filter:
    """*value* if it is a filter; otherwise an error that says what it is and what to write."""
    if pending(value):
        raise FilterError(
            "a value that is not known yet cannot be a filter", hint="compare with it"
        )
    if isinstance(value, Filter):
        return value
    if isinstance(value, str):
        raise Misread(
            f"the text {said(value)} is not a filter",
            hint="read it with Filter.parse(text), or give it to a find as filter='…'",
        )
    if isinstance(value, bool):
        raise Misread(
            f"{value} is not a filter",
            hint="Python answered an 'in', 'is', 'not' or comparison itself; use mem and & | ~",
        )
    if isinstance(value, _HALVES):
        raise Misread(
            f"{value!r} alone is not a filter",
            hint=f"compare it, or ask EXISTS(m); {PARENTHESES}",
        )
    raise Misread(
        f"{said(value)} is not a filter",
        hint="leave it out" if value is None else PARENTHESES,
    )
