"""An aggregation as one statement, where SQL says exactly the same as ``aggregate.Groups``.

An inner select takes each term out of the row once, with its JSON type; the outer one groups by
type and value. SQL knows the type of a value only row by row: where a key turns out to be an array
or a map, or a member to lie behind an array, the column ``trouble`` says so and Python does the
whole request. Sums and means are counted by the Python class itself (``sums.Total``).

Left to Python from the start: ``$unique`` and ``$all``, distances, rules that ``translate.py`` has
no SQL for, array indexes, dates in elements, parts of dates outside of ``groupBy``.

Source: protocol 5.
"""

# ruff: noqa: S608 - every part of a statement here is a text of ours; what users wrote is a parameter

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowkit.query import meaning
from flowkit.query.nodes import Path
from flowkit.server.fields import FIELDS, json_path
from flowkit.server.sql.translate import Translator
from flowkit.server.sql.values import NUMBER, Inexact

if TYPE_CHECKING:
    from flowkit.server.selectors import Aggregation, Output, Term

__all__ = ["Grouping"]

_MS_PER_DAY = 86_400_000
_DIVISORS = {"hour": (3_600_000, 24), "minute": (60_000, 60), "second": (1000, 60)}
_FORMATS = {"year": "%Y", "month": "%m", "day": "%d"}
_KIND = (
    "CASE {t} WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number' WHEN 'null' THEN NULL"
    " ELSE {t} END"
)


@dataclass
class Grouping:
    """The statement of an aggregation, and how its rows are read.

    Args:
        asked: the request.
        translator: of the statement, for members and rules.
        dates: the first and last ms that are a date.

    Raises:
        Inexact: SQL cannot say exactly the same.
    """

    asked: Aggregation
    translator: Translator
    dates: tuple[int, int]
    _inner: list[str] = field(default_factory=list)
    _places: dict[Term, int] = field(default_factory=dict)
    _trouble: list[str] = field(default_factory=list)

    def statement(self, conditions: str, rows_max: int) -> str:
        """The statement over the rows that satisfy *conditions*."""
        keys = [self._place(key.term) for key in self.asked.keys]
        for at in keys:
            self._trouble.append(f"ifnull(t{at} IN ('array','object'), 0)")
        outer = [
            column
            for at in keys
            for column in (_KIND.format(t=f"t{at}"), f"v{at}", f"max(t{at} = 'integer')")
        ]
        for output in self.asked.outputs:
            outer.extend(self._columns(output))
        behind = self._crossings()
        trouble = " OR ".join(dict.fromkeys([*self._trouble, *(["behind"] if behind else [])]))
        inner = [*self._inner, *([f"({' OR '.join(behind)}) AS behind"] if behind else [])]
        # LIMIT keeps SQLite from putting the inner expressions into the outer select, where each
        # would be computed once per use.
        return (
            f"SELECT {', '.join([f'max({trouble or 0})', 'count(*)', *outer])} FROM"
            f" (SELECT {', '.join(inner) or '1'} FROM drop_row WHERE {conditions} LIMIT -1)"
            + self._group_by(keys)
            + f" LIMIT {rows_max}"
        )

    def _group_by(self, keys: Sequence[int]) -> str:
        parts = [part for at in keys for part in (_KIND.format(t=f"t{at}"), f"v{at}")]
        return f" GROUP BY {', '.join(parts)}" if parts else ""

    def _place(self, term: Term) -> int:
        """The number of the inner columns of a term: ``t<n>`` and ``v<n>``."""
        if term not in self._places:
            number = len(self._places)
            kind, value = self._parts(term)
            self._places[term] = number
            self._inner += [f"{kind} AS t{number}", f"{value} AS v{number}"]
        return self._places[term]

    def _parts(self, term: Term) -> tuple[str, str]:
        if term.kind == "rule":
            assert term.rule is not None
            return "'integer'", self.translator.rule(term.rule)
        if term.kind == "member":
            return self._member(term.path)
        if term.kind == "date":
            kind, value = self._member(term.path)
            if kind.startswith("json_type"):
                raise Inexact
            part = self._date_part(value, term.part)
            return f"CASE WHEN {part} IS NOT NULL THEN 'integer' END", part
        raise Inexact

    def _member(self, path: Path) -> tuple[str, str]:
        """Type and value of a member of a drop."""
        constant = self.translator.constants.get(path[0])
        if constant is not None:
            if len(path) > 1:
                return "NULL", "NULL"
            return "'text'", self.translator.add(constant)
        place = FIELDS["drop"].get(path[0])
        if place is None:
            return "NULL", "NULL"
        if place.kind != "json":
            if len(path) > 1:
                return "NULL", "NULL"
            return f"CASE WHEN {place.column} IS NOT NULL THEN '{place.kind}' END", place.column
        inside = path[1:]
        if any(map(meaning.is_index, inside)) or "\\" in json_path(inside):
            raise Inexact
        spot = f"{place.column}, {self.translator.add(json_path(inside))}"
        kind = f"json_type({spot})"
        return (
            kind,
            f"CASE WHEN {kind} NOT IN ('array','object') THEN {spot.replace(', ', ' ->> ')} END",
        )

    def _crossings(self) -> list[str]:
        """Conditions that say that a member lies behind an array."""
        found = []
        for term in self._places:
            place = FIELDS["drop"].get(term.path[0]) if term.path else None
            if place is None or place.kind != "json":
                continue
            for count in range(2, len(term.path)):
                way = self.translator.add(json_path(term.path[1:count]))
                found.append(f"ifnull(json_type({place.column}, {way}) = 'array', 0)")
        return list(dict.fromkeys(found))

    def _date_part(self, ms: str, part: str) -> str:
        """A part of a date in a column of whole numbers; the time of day rounds down."""
        first, last = (self.translator.add(each) for each in self.dates)
        if part in _DIVISORS:
            divisor, modulus = _DIVISORS[part]
            of_day = f"((({ms} % {_MS_PER_DAY}) + {_MS_PER_DAY}) % {_MS_PER_DAY})"
            value = f"({of_day} / {divisor}) % {modulus}"
        else:
            second = f"(({ms} - ((({ms} % 1000) + 1000) % 1000)) / 1000)"
            value = f"CAST(strftime('{_FORMATS[part]}', {second}, 'unixepoch') AS INTEGER)"
        return f"(CASE WHEN {ms} BETWEEN {first} AND {last} THEN {value} END)"

    def _columns(self, output: Output) -> list[str]:
        """The outer columns of an output, in the order in which ``read`` takes them."""
        if output.term is None:
            return []
        if output.word == "newest":
            if output.term not in {key.term for key in self.asked.keys}:
                raise Inexact
            return []
        if output.word not in ("sum", "avg", "min", "max"):
            raise Inexact
        at = self._place(output.term)
        if output.word in ("min", "max"):
            return [
                f"{output.word}(v{at}) FILTER (WHERE t{at} = '{kind}')"
                for kind in ("integer", "real", "text")
            ]
        return [f"fk_{output.word}(v{at}) FILTER (WHERE t{at} IN {NUMBER})"]

    def read(self, row: Sequence[Any]) -> tuple[bool, list[Any], list[tuple[Any, ...]]]:
        """Whether Python must do it, the keys, and for each output what its columns hold."""
        trouble, count, *rest = row
        keys = []
        for _ in self.asked.keys:
            keys.append(_key(*rest[:3]))
            del rest[:3]
        by_term = {key.term: value for key, value in zip(self.asked.keys, keys, strict=True)}
        found: list[tuple[Any, ...]] = []
        for output in self.asked.outputs:
            if output.term is None:
                found.append((count,))
            elif output.word == "newest":
                found.append((by_term[output.term],))
            else:
                taken = 3 if output.word in ("min", "max") else 1
                found.append(tuple(rest[:taken]))
                del rest[:taken]
        return bool(trouble), keys, found


def _key(kind: str | None, value: Any, is_whole: int | None) -> Any:
    """A key as ``aggregate.Groups`` shows it."""
    if kind is None:
        return None
    if kind in ("true", "false"):
        return kind == "true"
    if kind == "number":
        return int(value) if is_whole else value + 0.0
    return value
