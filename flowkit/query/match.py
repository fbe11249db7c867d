"""Filters as Python functions: ``predicate`` makes one per distinct filter, ``matches`` asks it.

A filter becomes the source of one function: the common cases of each rule stand in it as plain
Python (a look-up, a class test, a comparison), everything else calls ``meaning.py``. Nothing that
came from a user is ever part of that source: names, literals and patterns are constants in the
function's namespace.

For ``mag >= 4.5 && EXISTS felt`` on a Drop the function returns::

    ((v >= c1 if (v := e.get(c0, ABSENT)).__class__ is float or v.__class__ is int
      else v.__class__ not in FLAT and any_ordered(v, '>=', c1)))
    and (((v := e.get(c2, ABSENT)) is not None and v is not ABSENT
      and (v.__class__ is not Many or exists(v))))

Source: protocol 4.2 (members), 4.5 (meaning).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from flowkit import limits
from flowkit.errors import FilterError
from flowkit.query import meaning, patterns
from flowkit.query.nodes import (
    UNITS_KM,
    Age,
    And,
    Comparison,
    Contains,
    Everything,
    Exists,
    Filter,
    Has,
    In,
    Matches,
    MemberComparison,
    Modulo,
    Not,
    Or,
    Path,
    Placeholder,
    Regex,
    Within,
    Zip,
)
from flowkit.query.places import Places, place_of

__all__ = ["Predicate", "matches", "predicate"]

Search = Callable[[Any, str], bool]


class Predicate(Protocol):
    """A filter as a function of an object and its surroundings."""

    def __call__(
        self,
        obj: Mapping[str, Any],
        now_ms: int | None = None,
        places: Places | None = None,
        types: Mapping[str, str] | None = None,
        search: Search = patterns.search,
    ) -> bool:
        """Whether *obj* satisfies the filter.

        Args:
            obj: the members of the object, as JSON values.
            now_ms: the time that AGE measures from, in ms since 1970 UTC; needed by AGE only.
            places: the table of postal codes; needed by ``ZIP=`` only.
            types: the types of typed elements (``elems.when`` to ``date``); asked by HAS.
            search: looks for a compiled pattern in a text; a server counts the time here.

        Raises:
            FilterError: *now_ms* or *places* is needed and missing, or a postal code is not known.
        """


def matches(
    filter: Filter,  # noqa: A002 - the word of the language
    obj: Mapping[str, Any],
    *,
    now_ms: int | None = None,
    resource: str = "drop",
    places: Places | None = None,
    types: Mapping[str, str] | None = None,
    search: Search = patterns.search,
) -> bool:
    """Whether *obj* satisfies *filter*; arguments and errors as in ``Predicate``."""

    return predicate(filter, resource)(obj, now_ms, places, types, search)


@lru_cache(maxsize=limits.filter_cache_entries)
def predicate(filter: Filter, resource: str = "drop") -> Predicate:  # noqa: A002 - as above
    """The function of a filter; the same one for equal filters.

    Args:
        filter: any filter without placeholders.
        resource: ``"drop"`` reads a bare name as an element (4.2); any other takes paths as they
            stand.

    Raises:
        FilterError: a value is not known yet, or a pattern is refused by ``patterns.compile``.
    """
    return _Compiler(resource).compile(filter)


_PRELUDE = {
    "elements": (
        "e = obj.get('elems')\n    if e.__class__ is not dict: e = e if isinstance(e, dict) else {}"
    ),
    "now": "if now_ms is None: raise now_needed()",
}

_PLAIN_ORDER = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}


class _Compiler:
    """Collects the constants and the source of one function."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.names: dict[str, Any] = {
            **{name: getattr(meaning, name) for name in meaning.__all__},
            "now_needed": _now_needed,
            "place_of": place_of,
            "default_search": patterns.search,
        }
        self.prelude: dict[str, str] = {}

    def compile(self, whole: Filter) -> Predicate:
        body = self.rule(whole)
        source = (
            "def predicate(obj, now_ms=None, places=None, types=None, search=default_search):\n"
            + "".join(f"    {line}\n" for line in self.prelude.values())
            + f"    return {body}\n"
        )
        # The source holds our own words and numbered names only; see the docstring.
        exec(compile(source, "<filter>", "exec"), self.names)  # noqa: S102 - as above
        function: Predicate = self.names["predicate"]
        return function

    # -- parts

    def constant(self, value: Any) -> str:
        """The name under which the function finds *value*."""
        if isinstance(value, Placeholder):
            raise FilterError(
                f"the value used at {value.origin} is not known yet",
                hint="a filter is evaluated once its values are there",
            )
        name = f"c{len(self.names)}"
        self.names[name] = value
        return name

    def member(self, path: Path) -> str:
        """An expression for the found value at *path*; may assign the name ``w``."""
        full = meaning.resolve(path, self.resource)
        if self.resource == "drop" and full[0] == "elems" and len(full) > 1:
            self.prelude["elements"] = _PRELUDE["elements"]
            root, rest = "e", full[1:]
        else:
            root, rest = "obj", full
        if len(rest) > 4:
            return f"walk({root}, {self.constant(rest)})"
        found = f"{root}.get({self.constant(rest[0])}, ABSENT)"
        for at, segment in enumerate(rest[1:], 1):
            found = (
                f"(w.get({self.constant(segment)}, ABSENT) if (w := {found}).__class__ is dict"
                f" else walk(w, {self.constant(rest[at : at + 1])}))"
            )
        return found

    def choose(self, path: Path, classes: tuple[str, ...], quick: str, slow: str) -> str:
        """*quick* for a found value ``v`` of one of the *classes*, *slow* for what is opened."""

        first, *others = classes
        test = f"(v := {self.member(path)}).__class__ is {first}"
        test += "".join(f" or v.__class__ is {other}" for other in others)
        return f"({quick} if {test} else v.__class__ not in FLAT and {slow})"

    # -- rules

    def rule(self, node: Filter) -> str:
        """The expression of any filter."""
        match node:
            case Everything():
                return "True"
            case And():
                return " and ".join(f"({self.rule(operand)})" for operand in node.operands)
            case Or():
                return " or ".join(f"({self.rule(operand)})" for operand in node.operands)
            case Not():
                return f"not ({self.rule(node.operand)})"
            case Comparison():
                return self.comparison(node)
            case MemberComparison():
                return self.member_comparison(node)
            case Modulo():
                return self.modulo(node)
            case Age():
                return self.age(node)
        return self.word(node)

    def word(self, node: Filter) -> str:
        """The expression of a rule that is spelled with a word or a pattern."""
        match node:
            case Regex():
                compiled = self.pattern(node.pattern, node.flags)
                return self.choose(
                    node.path,
                    ("str",),
                    f"search({compiled}, v)",
                    f"any_regex(v, {compiled}, search)",
                )
            case Matches():
                compiled = self.pattern(node.pattern, node.flags)
                return f"some_string(obj, {self.constant(self.resource)}, {compiled}, search)"
            case In():
                return self.one_of(node)
            case Contains():
                wanted = meaning.Wanted(self.values(node.values))
                return f"contains({self.member(node.path)}, {self.constant(wanted)})"
            case Within():
                return self.within(node)
            case Exists():
                return (
                    f"((v := {self.member(node.path)}) is not None and v is not ABSENT"
                    " and (v.__class__ is not Many or exists(v)))"
                )
            case Has():
                root = "obj.get('elems')" if self.resource == "drop" else "obj"
                return f"has({root}, types, {self.constant(node.type_name)})"
        raise TypeError(f"{type(node).__name__} is not a node of the filter language")

    def comparison(self, node: Comparison) -> str:
        if node.op == "!=":
            return f"not {self.comparison(Comparison(node.path, '==', node.value))}"
        literal = self.constant(node.value)
        if node.op == "==" and (node.value is None or isinstance(node.value, bool)):
            also = " or v is ABSENT" if node.value is None else ""
            return (
                f"((v := {self.member(node.path)}) is {literal}{also}"
                f" or v.__class__ not in FLAT and any_equal(v, {literal}))"
            )
        if node.op == "==":
            slow = f"any_equal(v, {literal})"
        elif node.value is None or isinstance(node.value, bool):
            return "False"
        else:
            slow = f"any_ordered(v, {_quoted_op(node.op)}, {literal})"
        classes = ("str",) if isinstance(node.value, str) else ("float", "int")
        return self.choose(node.path, classes, f"v {_operator(node.op)} {literal}", slow)

    def member_comparison(self, node: MemberComparison) -> str:
        if node.op == "!=":
            return f"not {self.member_comparison(MemberComparison(node.path, '==', node.other))}"
        one, other = self.member(node.path), self.member(node.other)
        slow = (
            "members_equal(u, v)"
            if node.op == "=="
            else f"members_ordered(u, {_quoted_op(node.op)}, v)"
        )
        # & and not "and": both members are looked up, whatever the first one is.
        numbers = f"((u := {one}).__class__ in NUMBERS) & ((v := {other}).__class__ in NUMBERS)"
        return f"(u {_operator(node.op)} v if {numbers} else {slow})"

    def modulo(self, node: Modulo) -> str:
        if node.op == "!=":
            return f"not {self.modulo(Modulo(node.path, node.divisor, '==', node.remainder))}"
        given = f"{self.constant(node.divisor)}, {self.constant(node.remainder)}"
        return self.choose(
            node.path, ("int", "float"), f"modulo_is(v, {given})", f"any_modulo(v, {given})"
        )

    def age(self, node: Age) -> str:
        if node.op == "!=":
            return f"not {self.age(Age(node.path, '==', node.ms))}"
        self.prelude["now"] = _PRELUDE["now"]
        age = self.constant(node.ms)
        path = node.path or ("creationDate",)
        return self.choose(
            path,
            ("int", "float"),
            f"now_ms - v {_operator(node.op)} {age}",
            f"any_age(v, now_ms, {_quoted_op(node.op)}, {age})",
        )

    def one_of(self, node: In) -> str:
        wanted = meaning.Wanted(self.values(node.values))
        slow = f"any_in(v, {self.constant(wanted)})"
        if wanted.strings and not wanted.numbers and not wanted.others:
            return self.choose(node.path, ("str",), f"v in {self.constant(wanted.strings)}", slow)
        if wanted.numbers and not wanted.strings and not wanted.others:
            quick = f"v in {self.constant(wanted.numbers)}"
            return self.choose(node.path, ("int", "float"), quick, slow)
        return f"any_in({self.member(node.path)}, {self.constant(wanted)})"

    def within(self, node: Within) -> str:
        if isinstance(node.distance, Placeholder) or isinstance(node.place, Placeholder):
            return self.constant(
                node.distance if isinstance(node.distance, Placeholder) else node.place
            )
        radius = self.constant(node.distance * UNITS_KM[node.unit])
        if isinstance(node.place, Zip):
            code = self.constant(node.place.code)
            centre = f"z{len(self.prelude)}"
            self.prelude[centre] = f"{centre} = place_of(places, {code})"
        else:
            centre = self.constant(node.place)
        return f"any_within({self.member(node.path)}, {centre}, {radius})"

    # -- arguments

    def pattern(self, pattern: str | Placeholder, flags: str) -> str:
        """The name of a compiled pattern."""
        if isinstance(pattern, Placeholder):
            return self.constant(pattern)
        return self.constant(patterns.compile(pattern, flags))

    def values(self, values: tuple[Any, ...] | Placeholder) -> tuple[Any, ...]:
        """The values of a list, all of them known."""
        listed = (values,) if isinstance(values, Placeholder) else values
        for value in listed:
            if isinstance(value, Placeholder):
                self.constant(value)
        return listed


def _operator(op: str) -> str:
    """The Python operator of a comparison; a table, so that no other text gets into the source."""
    return "==" if op == "==" else _PLAIN_ORDER[op]


def _quoted_op(op: str) -> str:
    return f"'{_operator(op)}'"


def _now_needed() -> FilterError:
    return FilterError("a filter with AGE needs to know the time", hint="give now_ms")
