"""Takes a filter apart: conjuncts that SQL says exactly, and those left to Python.

An OR or NOT goes to SQL whole or not at all. Columns come from ``fields.py``, the rules from
``values.py``.

Left to Python: ways deeper than three names inside a map, a map as a whole (but for null, EXISTS
and WITHIN), comparisons of two members that may cross an array, HAS on other resources than Drops,
MATCHES on objects, and members of theirs that are not shown as they are stored, more than 100
values in CONTAINS, ages beyond 64 bits, names that need an escape in a JSON path, text with half a
surrogate pair.
"""

# ruff: noqa: S608 - every part of a statement here is a text of ours; what users wrote is a parameter

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowkit.query import meaning, patterns
from flowkit.query.match import predicate
from flowkit.query.nodes import (
    Age,
    And,
    Comparison,
    Contains,
    Everything,
    Exists,
    Filter,
    Has,
    Matches,
    MemberComparison,
    Modulo,
    Not,
    Or,
    Path,
    Within,
    Zip,
)
from flowkit.query.places import Places, place_of
from flowkit.server.fields import DOCUMENT, FIELDS, JSON_TYPES, Field, index_step, json_path
from flowkit.server.sql.values import (
    NUMBER,
    Inexact,
    Parameters,
    Rules,
    Spot,
    Test,
    conjunction,
    cost,
    disjunction,
    sql_op,
)

__all__ = ["Translator"]

_DEPTH_MAX = 3
"""Most names of a way inside a map; each may meet an array, and the condition doubles with each."""


class Translator:
    """Turns filters on one resource into conditions of one statement.

    Args:
        resource: ``drop``, ``flow`` or ``identity``; or the kind of an object, with *is_stored*.
        parameters: of the statement.
        constants: members that are the same for all rows (a Drop's ``path`` and ``flowId``).
        now_ms: what AGE measures from.
        places: the table of postal codes.
        is_stored: whether a member of an object stands in its document as filters see it; Python
            asks for the others.
    """

    def __init__(
        self,
        resource: str,
        parameters: Parameters,
        *,
        constants: Mapping[str, str],
        now_ms: int,
        places: Places | None,
        is_stored: Callable[[Path], bool] | None = None,
    ) -> None:
        self.resource = resource
        self.fields = FIELDS.get(resource, {})
        self.is_stored = is_stored
        self.add = parameters.add
        self.constants = constants
        self.rules = Rules(parameters, now_ms=now_ms, places=places)

    def split(self, whole: Filter) -> tuple[list[str], list[Filter]]:
        """Conditions that hold together, and the filters that Python must ask besides.

        Raises:
            FilterError: a postal code cannot be looked up, or a pattern is refused.
        """
        for node in whole.walk():
            if isinstance(node, Within) and isinstance(node.place, Zip):
                place_of(self.rules.places, node.place.code)
        conditions: list[str] = []
        rest: list[Filter] = []
        for conjunct in whole.operands if isinstance(whole, And) else (whole,):
            if isinstance(conjunct, Everything):
                continue
            try:
                conditions.append(self._indexable(conjunct) or self.rule(conjunct))
            except Inexact:
                rest.append(conjunct)
        # SQLite asks in the order written; nothing has side effects: what costs least comes first.
        return sorted(conditions, key=cost), rest

    def _indexable(self, node: Filter) -> str | None:
        """A bare comparison of a column, which an index can answer.

        It is NULL for an absent member; as a conjunct of the whole WHERE that means false.
        """
        if not isinstance(node, Comparison) or node.op == "!=":
            return None
        where = self._where(node.path)
        if not isinstance(where, Field) or _kind(node.value) != where.kind:
            return None
        return f"{where.column} {sql_op(node.op)} {self.add(node.value)}"

    def rule(self, node: Filter) -> str:
        """The condition of a filter, 0 or 1.

        Raises:
            Inexact: SQL cannot say exactly the same.
        """
        match node:
            case Everything():
                return "1"
            case And():
                return conjunction(sorted(map(self.rule, node.operands), key=cost))
            case Or():
                return disjunction(sorted(map(self.rule, node.operands), key=cost))
            case Not():
                return f"NOT {self.rule(node.operand)}"
            case Matches():
                return self._matches(node)
            case Has():
                return self._has(node)
        if getattr(node, "op", None) == "!=":
            return f"NOT {self.rule(_positive(node))}"
        if isinstance(node, MemberComparison):
            return self._member_comparison(node)
        if isinstance(node, Age) and node.path is None:
            node = Age(("creationDate",), node.op, node.ms)
        return self._on_member(node)

    # -- where a member is

    def _where(self, path: Path) -> Field | tuple[Field, Path] | None:
        """A column, or a JSON column and the way inside; None for what no row has a column for."""
        full = meaning.resolve(path, self.resource)
        if self.is_stored is not None:
            if not self.is_stored(full):
                raise Inexact
            return DOCUMENT, full
        field = self.fields.get(full[0])
        if field is None:
            return None
        if field.kind == "json":
            return field, full[1:]
        return field if len(full) == 1 else None

    def _on_member(self, node: Any) -> str:
        """A rule about one member and literals."""
        where = self._where(node.path)
        if where is None:
            # Absent from every row, or the same in all of them: Python knows the answer now.
            asked = predicate(node, self.resource)
            return "1" if asked(self.constants, self.rules.now_ms, self.rules.places) else "0"
        if isinstance(where, Field):
            return self._on_column(node, where)
        field, inside = where
        if not inside:
            return self._on_map(node, field)
        if isinstance(node, Comparison) and node.op == "==" and node.value is None:
            present = self._holds(field.column, inside, lambda spot: f"({spot.type} IS NOT NULL)")
            null = self._holds(field.column, inside, self.rules.test(node))
            return f"((NOT {present}) OR {null})"
        return self._holds(field.column, inside, self.rules.test(node))

    def _on_map(self, node: Any, field: Field) -> str:
        """A rule about a JSON column as a whole, which is a map or absent."""
        match node:
            case Exists():
                return f"({field.column} IS NOT NULL)"
            case Within():
                return self.rules.within(node)(Spot(field.column, self.add("$")))
            case Comparison():
                null = node.op == "==" and node.value is None
                return f"({field.column} IS NULL)" if null else "0"
        raise Inexact

    def _holds(self, base: str, inside: Path, test: Test, *, root: str | None = None) -> str:
        """*test* of the value at *inside*, or of any such value where an array is crossed (4.5.0).

        *root* is the JSON path to begin at. Entries of an array are reached by their index in the
        column itself: taken out as values they would be JSON text, whose names may hold escapes.
        """
        if len(inside) > _DEPTH_MAX:
            raise Inexact
        branches = []
        for at in range(1, len(inside)):
            if meaning.is_index(inside[at]):
                continue
            prefix, alias = self._path(base, inside[:at], root), self.rules.alias()
            entry = self._holds(
                base, inside[at:], test, root=f"({prefix} || '[' || {alias}.key || ']')"
            )
            branches.append(
                f"WHEN json_type({base}, {prefix}) = 'array' THEN EXISTS"
                f" (SELECT 1 FROM json_each({base}, {prefix}) AS {alias}"
                f" WHERE {alias}.type = 'object' AND {entry})"
            )
        direct = test(Spot(base, self._path(base, inside, root)))
        return f"(CASE {' '.join(branches)} ELSE {direct} END)" if branches else direct

    def _path(self, base: str, inside: Path, root: str | None = None) -> str:
        """The JSON path as an expression; a number is an index where it meets an array."""
        if any("\\" in json_path((segment,)) for segment in inside):
            # SQLite compares escaped names up to a NUL only: "\\u0000x" would be the name "".
            raise Inexact
        if not any(map(meaning.is_index, inside)):
            path = json_path(inside)
            return self.add(path) if root is None else f"({root} || {self.add(path[1:])})"
        way = root or self.add("$")
        for segment in inside:
            key, step = self.add(json_path((segment,))[1:]), index_step(segment)
            if step is not None:
                kind = f"json_type({base}, {way})"
                key = f"CASE {kind} WHEN 'array' THEN {self.add(step)} ELSE {key} END"
            way = f"({way} || {key})"
        return way

    def _on_column(self, node: Any, field: Field) -> str:
        """A rule about a column that holds one kind of value."""
        column = field.column
        if isinstance(node, Exists) or (isinstance(node, Contains) and not node.values):
            return f"({column} IS NOT NULL)"
        if isinstance(node, Comparison) and node.op == "==" and node.value is None:
            return f"({column} IS NULL)"
        by_type = self._column_rule(node)
        if field.kind == "boolean":
            false, true = by_type.get("false", "0"), by_type.get("true", "0")
            return f"(CASE {column} WHEN 0 THEN {false} WHEN 1 THEN {true} ELSE 0 END)"
        condition = by_type.get(field.kind, "0").replace("{}", column)
        return f"ifnull({condition}, 0)" if field.nullable else condition

    def _column_rule(self, node: Any) -> dict[str, str]:
        """Kind of column to template of a rule."""
        match node:
            case Contains():
                wanted = meaning.Wanted(node.values)  # type: ignore[arg-type]  # values are known
                if wanted.numbers or wanted.others:
                    return {}
                return {"text": self.rules.substrings("{}", wanted)}
            case Within():
                return {}
            case Age():
                return {"integer": self.rules.age_of_integer(node)}
        return self.rules.by_type(node)

    # -- rules of their own

    def _matches(self, node: Matches) -> str:
        if self.is_stored is not None:
            raise Inexact
        if self.resource != "drop":
            texts = [field.column for field in self.fields.values() if field.kind == "text"]
            return disjunction([self.rules.regex(node, column) for column in texts])
        compiled = patterns.compile(node.pattern, node.flags)
        if patterns.search(compiled, self.constants.get("path", "")):
            return "1"
        alias = self.rules.alias()
        return (
            f"(EXISTS (SELECT 1 FROM json_tree(elems) AS {alias}"
            f" WHERE {alias}.type = 'text' AND {self.rules.regex(node, f'{alias}.atom')})"
            f" OR {self.rules.regex(node, 'fhash')})"
        )

    def _has(self, node: Has) -> str:
        if self.resource != "drop":
            raise Inexact
        alias = self.rules.alias()
        types = JSON_TYPES.get(node.type_name, ())
        listed = ", ".join(f"'{name}'" for name in types)
        inferred = (
            f"EXISTS (SELECT 1 FROM json_tree(elems) AS {alias}"
            f" WHERE {alias}.type IN ({listed}) AND {alias}.parent IS NOT NULL)"
        )
        asked = f"fk_has(json(elems), types, {self.add(node.type_name)})"
        return f"(CASE WHEN types IS NULL THEN {inferred if types else '0'} ELSE {asked} END)"

    def _member_comparison(self, node: MemberComparison) -> str:
        one, other = self._side(node.path), self._side(node.other)
        if one is None or other is None:
            return "0"
        compared = f"{one.value} {sql_op(node.op)} {other.value}"
        cases = [
            f"WHEN {one.type} IN {NUMBER} AND {other.type} IN {NUMBER} THEN {compared}",
            f"WHEN {one.type} = 'text' AND {other.type} = 'text' THEN {compared}",
        ]
        if node.op == "==":
            cases += [
                f"WHEN {one.type} IN ('true','false','null')"
                f" THEN ifnull({one.type} = {other.type}, 0)",
                f"WHEN {one.type} IN ('array','object') AND {one.type} = {other.type}"
                f" THEN fk_same({one.text}, {other.text})",
            ]
        return f"(CASE {' '.join(cases)} ELSE 0 END)"

    def _side(self, path: Path) -> Spot | None:
        """One member of a comparison of two; None for one that no row has."""
        full = meaning.resolve(path, self.resource)
        where = self._where(path)
        if where is None:
            constant = self.constants.get(full[0]) if len(full) == 1 else None
            return None if constant is None else Spot.fixed("'text'", self.add(constant))
        if isinstance(where, Field):
            column = where.column
            if where.kind == "boolean":
                kind = f"(CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END)"
                return Spot.fixed(kind, column)
            return Spot.fixed(f"(CASE WHEN {column} IS NOT NULL THEN '{where.kind}' END)", column)
        field, inside = where
        crosses = any(not meaning.is_index(segment) for segment in inside[1:])
        if crosses or len(inside) > _DEPTH_MAX:
            raise Inexact
        return Spot(field.column, self._path(field.column, inside) if inside else self.add("$"))


def _positive(node: Any) -> Filter:
    """A rule with ``!=`` as the one with ``==``, which it negates."""
    match node:
        case Comparison():
            return Comparison(node.path, "==", node.value)
        case MemberComparison():
            return MemberComparison(node.path, "==", node.other)
        case Modulo():
            return Modulo(node.path, node.divisor, "==", node.remainder)
        case Age():
            return Age(node.path, "==", node.ms)
    raise Inexact


def _kind(value: Any) -> str | None:
    """The kind of column that can equal a literal without a guard."""
    if isinstance(value, bool) or value is None:
        return None
    return "text" if isinstance(value, str) else "integer"
