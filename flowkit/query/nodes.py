"""What a filter is: frozen values that say which objects match.

Rules of this room (``flowkit/query``): it is pure. Nothing here opens a socket, reads a clock,
starts a thread or draws a random number; *now*, ZIP tables and the like are arguments. A node holds
plain values and path tuples, never the member objects that built it, and every value is brought to
its one form before it gets here (``normal.py``, ``chains.py``), so two filters are equal exactly
when their texts are.

The meaning of every rule is section 4.5 of the protocol; the parts that all evaluators share:

* a **path** denotes a list of candidates (4.5.0); an absent member has none;
* a rule about an absent member is false, except ``!=``, ``% x !=`` and ``== null``, which are true;
* ``!=`` is exactly the negation of ``==``; nothing is ever converted to another type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from flowkit.query.explain import Explanation

__all__ = [
    "Age",
    "And",
    "Comparison",
    "Contains",
    "Everything",
    "Exists",
    "Filter",
    "Has",
    "In",
    "Literal",
    "Matches",
    "MemberComparison",
    "Modulo",
    "Not",
    "Or",
    "Path",
    "Placeholder",
    "Regex",
    "Within",
    "Zip",
    "literal_key",
    "COMPARISONS",
    "KEYWORDS",
    "RANKS",
    "REGEX_FLAGS",
    "UNITS_KM",
]

Path = tuple[str, ...]
"""The segments of a member, outermost first: ``("elems", "temp")``. Never empty."""

Literal = None | bool | int | float | str
"""What a rule may compare with. Floats are finite."""

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
"""The six comparisons of 4.1."""

KEYWORDS = frozenset(
    [
        "IN",
        "CONTAINS",
        "WITHIN",
        "OF",
        "EXISTS",
        "HAS",
        "AGE",
        "MATCHES",
        "NOT",
        "ZIP",
        "true",
        "false",
        "null",
    ]
)
"""Words that cannot stand for a member's first segment; write it in brackets (4.4)."""

REGEX_FLAGS = "imsgux"
"""The letters that may follow a pattern (4.3), in canonical order."""

UNITS_KM = {
    "MILES": 1.609344,
    "MILE": 1.609344,
    "MI": 1.609344,
    "KM": 1.0,
    "KILOMETERS": 1.0,
    "METERS": 0.001,
    "M": 0.001,
    "FEET": 0.0003048,
}
"""The units of WITHIN and their length in kilometres (4.4, 4.5.11)."""

RANKS = {"||": 1, "&&": 2, "NOT": 3, "rule": 4}
"""How tightly each form binds; decides every parenthesis that is read or written (4.4)."""


def literal_key(value: object) -> tuple[type, object]:
    """A key under which ``1``, ``1.0``, ``True`` and ``-0.0``, ``0.0`` are all different."""
    return (float, repr(value)) if type(value) is float else (type(value), value)


class Filter:
    """A condition on objects, as a value: frozen, hashable, picklable, printable, comparable.

    ``str(f)`` is the text that goes over the wire, ``repr(f)`` is Python that builds it again,
    ``Filter.parse(text)`` reads it back and ``Filter.parse(str(f)) == f`` always holds.
    """

    __slots__ = ("_hash",)
    _hash: int

    rank: ClassVar[int] = RANKS["rule"]

    # The four acts of the language live in modules of their own, which import this one: hence the
    # late imports below.

    @staticmethod
    def parse(text: str) -> Filter:
        """Read the text of a filter; raises ``FilterSyntaxError`` or ``LimitError``."""
        from flowkit.query.parse import parse

        return parse(text)

    def matches(
        self, obj: dict[str, Any], *, now_ms: int | None = None, **surroundings: Any
    ) -> bool:
        """Whether *obj* satisfies the filter; see ``flowkit.query.match.matches``."""
        from flowkit.query.match import matches

        return matches(self, obj, now_ms=now_ms, **surroundings)

    def explain(
        self, obj: dict[str, Any], *, now_ms: int | None = None, **surroundings: Any
    ) -> Explanation:
        """Which part held and which failed for *obj*, and with which value."""
        from flowkit.query.explain import explain

        return explain(self, obj, now_ms=now_ms, **surroundings)

    def __str__(self) -> str:
        from flowkit.query.render import render

        return render(self)

    def __repr__(self) -> str:
        from flowkit.query.render import source

        return source(self)

    def __and__(self, other: object) -> Filter:
        from flowkit.query.build import all_of

        return all_of(self, other)

    def __or__(self, other: object) -> Filter:
        from flowkit.query.build import any_of

        return any_of(self, other)

    # Python asks these only when what stands on the left is no filter.

    def __rand__(self, other: object) -> NoReturn:
        from flowkit.query.misread import refuse_left

        refuse_left(other, "&", self)

    def __ror__(self, other: object) -> NoReturn:
        from flowkit.query.misread import refuse_left

        refuse_left(other, "|", self)

    def __invert__(self) -> Filter:
        from flowkit.query.build import NOT

        return NOT(self)

    def AND(self, other: object) -> Filter:  # noqa: N802 - the platform's own word
        """This filter and *other*, both."""
        return self & other

    def OR(self, other: object) -> Filter:  # noqa: N802 - the platform's own word
        """This filter or *other*, or both."""
        return self | other

    def __bool__(self) -> NoReturn:
        from flowkit.query.misread import refuse_truth

        refuse_truth(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        return self is other or (type(self) is type(other) and self._key() == other._key())

    def __hash__(self) -> int:
        # Kept, for the caches of functions and texts: a list of thousands of values is hashed once.
        try:
            return self._hash
        except AttributeError:
            found = hash(self._key())
            object.__setattr__(self, "_hash", found)
            return found

    def _key(self) -> tuple[object, ...]:
        """The structure with the type of each literal; equal keys, equal filters."""
        return (type(self), *[_field_key(getattr(self, name)) for name in self.names()])

    def names(self) -> tuple[str, ...]:
        """The names of what this node itself holds: ``("path", "op", "value")``."""
        found: tuple[str, ...] = self.__slots__
        return found

    def children(self) -> tuple[Filter, ...]:
        """The operands of ``&&``, ``||`` and ``NOT``; empty for a rule."""
        return ()

    def walk(self) -> Iterator[Filter]:
        """This filter and every filter inside it, outermost first."""
        yield self
        for child in self.children():
            yield from child.walk()


def _field_key(value: object) -> object:
    if type(value) is str:
        return value
    if type(value) is tuple:
        return tuple(map(_field_key, value))
    return value._key() if isinstance(value, Filter) else literal_key(value)


@dataclass(frozen=True, eq=False, repr=False)
class Placeholder:
    """A value that is not known yet: it can be kept in a filter but not rendered or evaluated.

    The client puts the real value in its place (``flowkit.query.build.resolve``) before it sends
    the filter; the checks that a plain value gets when the filter is built run then.

    Attributes:
        pending: the object that will have a value (a thunk). Never touched by this package.
        origin: ``"file.py:12"``, the line that built the rule; errors name it.
        check: takes the value once it is known; returns what the rule may hold, or raises.
    """

    pending: Any
    origin: str
    check: Callable[[Any], Any]

    def __repr__(self) -> str:
        return f"<value not known yet, used at {self.origin}>"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Everything(Filter):
    """The empty filter: matches every object. Its text is ``""``."""


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Comparison(Filter):
    """``m op literal``; *op* is one of ``COMPARISONS``."""

    path: Path
    op: str
    value: Literal | Placeholder


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class MemberComparison(Filter):
    """``m1 op m2``: arrays and maps are not opened (4.5.0)."""

    path: Path
    op: str
    other: Path


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Modulo(Filter):
    """``m % divisor op remainder``; *op* is ``==`` or ``!=``; the sign is that of the dividend."""

    path: Path
    divisor: int | float | Placeholder
    op: str
    remainder: int | float | Placeholder


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Regex(Filter):
    """``m =~ /pattern/flags``: some string candidate holds the pattern."""

    path: Path
    pattern: str | Placeholder
    flags: str


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class In(Filter):
    """``m IN [v, …]``: some candidate equals one of the values."""

    path: Path
    values: tuple[Literal | Placeholder, ...] | Placeholder


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Contains(Filter):
    """``m CONTAINS [v, …]``: the array, string or map holds all of the values."""

    path: Path
    values: tuple[Literal | Placeholder, ...] | Placeholder


@dataclass(frozen=True, slots=True)
class Zip:
    """A postal code as a place: ``[ZIP=11201]``. Text, so that leading zeros survive."""

    code: str


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Within(Filter):
    """``m WITHIN distance unit OF place``: great-circle distance, inclusive (4.5.11).

    Attributes:
        distance: in *unit*, not negative.
        unit: a key of ``UNITS_KM``.
        place: ``(latitude, longitude)`` in decimal degrees, or a ``Zip``.
    """

    path: Path
    distance: int | float | Placeholder
    unit: str
    place: tuple[int | float, int | float] | Zip | Placeholder


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Exists(Filter):
    """``EXISTS m``: present and not null."""

    path: Path


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Has(Filter):
    """``HAS type``: some element, at any depth, has that data type (2.2)."""

    type_name: str


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Age(Filter):
    """``AGE op ms`` (of ``creationDate``, *path* None) or ``AGE('m') op ms``, in milliseconds."""

    path: Path | None
    op: str
    ms: int | float | Placeholder


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Matches(Filter):
    """``MATCHES /pattern/flags``: the pattern is found in some text of the object (4.5.7)."""

    pattern: str | Placeholder
    flags: str


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Not(Filter):
    """``NOT operand``."""

    operand: Filter
    rank: ClassVar[int] = RANKS["NOT"]

    def children(self) -> tuple[Filter, ...]:
        """The operands."""
        return (self.operand,)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class And(Filter):
    """``a && b && …``: a chain is one node of two or more operands, none of them an ``And``."""

    operands: tuple[Filter, ...]
    rank: ClassVar[int] = RANKS["&&"]

    def children(self) -> tuple[Filter, ...]:
        """The operands."""
        return self.operands


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Or(Filter):
    """``a || b || …``: a chain is one node of two or more operands, none of them an ``Or``."""

    operands: tuple[Filter, ...]
    rank: ClassVar[int] = RANKS["||"]

    def children(self) -> tuple[Filter, ...]:
        """The operands."""
        return self.operands
