"""What an aggregation means: its evaluation over documents, in Python.

``Groups`` takes one drop after the other, the newest first, and gives the rows; ``sql/grouping.py``
says the same in SQL where it can. Rules of the meaning, beside those of the protocol:

* null and absent are alike: the drop has no such member;
* a member that ends in an array is that array, one that goes through an array the list of what it
  found there. As a key it is compared as a whole; ``$sum $avg $min $max`` skip it;
* numbers are equal by value: 1 and 1.0 are one key, shown as whole if any drop has it so. ``true``
  is no number;
* a part of a date or a distance in ``output`` is that of the newest drop that has one;
* sums are exact and rounded once (``sums.py``), so nothing depends on the order of drops;
* rows come in the order of their keys, ascending, where ``sorts`` leaves them equal; null is last.

Source: protocol 5 (aggregation), 3.6 (order of types), 4.2 (members), 4.5.0 (arrays).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import orjson

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.protocol.envelope import too_large
from flowkit.query import meaning, patterns
from flowkit.query.match import predicate
from flowkit.query.nodes import UNITS_KM, Path, Within, Zip
from flowkit.query.places import Places, place_of
from flowkit.server.selectors import Aggregation, Output, Sort, Term
from flowkit.server.sums import Total

__all__ = ["DATE_MAX_MS", "DATE_MIN_MS", "Groups", "extreme", "finished", "too_many_rows"]

DATE_MIN_MS = int(datetime(1, 1, 1, tzinfo=UTC).timestamp()) * 1000
DATE_MAX_MS = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()) * 1000 + 999
"""The years 1 to 9999; a number beyond is no date."""

_MS_PER_DAY = 86_400_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()

Search = Callable[[Any, str], bool]


# -- what one drop has -----------------------------------------------------------------------------

Value = Callable[[Mapping[str, Any], Mapping[str, str] | None], Any]
"""A term as a function of a drop and its types; None where the drop has none."""


def value_of(term: Term, *, now_ms: int, places: Places | None, search: Search) -> Value:
    """The function of a term.

    Raises:
        FilterError: a postal code cannot be looked up.
    """
    if term.kind == "rule":
        assert term.rule is not None
        holds = predicate(term.rule)
        return lambda doc, types: 1 if holds(doc, now_ms, places, types, search) else 0
    if term.kind == "date":
        return lambda doc, _types: date_part(_found(doc, term.path), term.part)
    if term.kind == "distance":
        assert isinstance(term.rule, Within)
        return _distance(term.rule, places)
    return lambda doc, _types: _found(doc, term.path)


def _found(doc: Mapping[str, Any], path: Path) -> Any:
    found = meaning.walk(doc, path)
    if found is meaning.ABSENT:
        return None
    return list(found) if isinstance(found, meaning.Many) else found


def _distance(rule: Within, places: Places | None) -> Value:
    """The distance to the nearest place at the member of a rule, in the unit of the rule."""
    place: Any = rule.place
    centre = place_of(places, place.code) if isinstance(place, Zip) else place
    path, unit_km = meaning.resolve(rule.path, "drop"), UNITS_KM[rule.unit]

    def distance(doc: Mapping[str, Any], _types: Mapping[str, str] | None) -> float | None:
        ends = meaning.ends(meaning.walk(doc, path))
        ways = [meaning.distance_km(*meaning.place_in(end), centre) for end in ends]
        nearest = min(ways, default=math.inf)
        return None if nearest == math.inf else nearest / unit_km

    return distance


def date_part(value: Any, part: str) -> int | None:
    """A part of a date in ms since 1970 UTC; None for what is no date."""
    if not meaning.is_number(value) or not DATE_MIN_MS <= value <= DATE_MAX_MS:
        return None
    days, ms = divmod(math.floor(value), _MS_PER_DAY)
    if part in ("hour", "minute", "second"):
        hours, rest = divmod(ms // 1000, 3600)
        return int({"hour": hours, "minute": rest // 60, "second": rest % 60}[part])
    found: int = getattr(date.fromordinal(_EPOCH_DAY + days), part)
    return found


# -- groups ----------------------------------------------------------------------------------------


class _Extreme:
    """The smallest or largest value: whole numbers, doubles and texts apart."""

    __slots__ = ("_best", "_word")

    def __init__(self, word: str) -> None:
        self._best: dict[type, Any] = {}
        self._word = word

    def add(self, value: Any) -> None:
        kind = value.__class__
        if kind not in (int, float, str):
            return
        best = self._best.get(kind)
        if best is None or (value < best if self._word == "min" else value > best):
            self._best[kind] = value

    def result(self) -> Any:
        return extreme(self._word, *(self._best.get(kind) for kind in (int, float, str)))


def extreme(word: str, whole: Any, real: Any, text: Any) -> Any:
    """The ``min`` or ``max`` of the extremes of each kind; None for none. Numbers before texts."""
    if text is not None and (word == "max" or (whole is None and real is None)):
        return text
    numbers = [number for number in (whole, real) if number is not None]
    if not numbers:
        return None
    best = min(numbers) if word == "min" else max(numbers)  # the first, which is whole, if equal
    return best + 0.0 if isinstance(best, float) else best


class _Group:
    """One group while drops are added to it."""

    __slots__ = ("count", "parts", "shown")

    def __init__(self, shown: list[Any], parts: list[Any]) -> None:
        self.count = 0
        self.shown = shown
        self.parts = parts


class Groups:
    """Takes drops, the newest first, and gives the rows.

    Args:
        asked: the request; its filter is asked by whoever adds the drops.
        now_ms, places, search: the surroundings of rules.
        bytes_max: most bytes that lists, texts and keys may take.

    Raises:
        FilterError: a postal code cannot be looked up.
    """

    def __init__(
        self,
        asked: Aggregation,
        *,
        now_ms: int,
        places: Places | None = None,
        search: Search = patterns.search,
        bytes_max: int = limits.answer_bytes_max,
    ) -> None:
        def value(term: Term) -> Value:
            return value_of(term, now_ms=now_ms, places=places, search=search)

        self._asked = asked
        self._keys = [value(key.term) for key in asked.keys]
        self._values = [value(one.term) if one.term else None for one in asked.outputs]
        self._groups: dict[Any, _Group] = {}
        self._bytes_left = self._bytes_max = bytes_max
        if not asked.keys:
            self._groups[()] = self._new([])

    def add(self, doc: Mapping[str, Any], types: Mapping[str, str] | None = None) -> None:
        """Take one drop that passed the filter.

        Raises:
            BadRequest: there are too many rows, or they grow too large.
        """
        found = [value(doc, types) for value in self._keys]
        name = tuple(map(_identity, found))
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = self._new(found)
        else:
            for at, key in enumerate(found):
                if key.__class__ is int:
                    group.shown[at] = key
        group.count += 1
        for part, value in zip(group.parts, self._values, strict=True):
            if value is not None:
                self._add(part, value(doc, types))

    def _add(self, part: Any, value: Any) -> None:
        if value is None:
            return
        if isinstance(part, Total):
            if value.__class__ is float or value.__class__ is int:
                part.add(value)
        elif isinstance(part, _Extreme):
            part.add(value)
        elif isinstance(part, list):
            self._count(value)
            part.append(value)
        elif (name := _identity(value)) not in part:
            self._count(value)
            part[name] = value

    def _new(self, found: list[Any]) -> _Group:
        if len(self._groups) >= limits.aggregate_rows_max:
            raise too_many_rows()
        self._count(found)
        return _Group(
            [key_shown(key) for key in found], [_part(one) for one in self._asked.outputs]
        )

    def _count(self, value: Any) -> None:
        self._bytes_left -= len(orjson.dumps(value))
        if self._bytes_left < 0:
            raise too_large(self._bytes_max)

    def rows(self) -> list[dict[str, Any]]:
        """The rows, in their order."""
        rows = []
        for group in self._groups.values():
            values = [
                _result(one, group.count, part)
                for one, part in zip(self._asked.outputs, group.parts, strict=True)
            ]
            rows.append((group.shown, values))
        return finished(self._asked, rows)


def too_many_rows() -> BadRequest:
    """The refusal of an answer with too many rows."""
    return BadRequest(
        f"groupBy: makes more than {limits.aggregate_rows_max} rows: use a filter or fewer keys"
    )


def _part(output: Output) -> Any:
    """What collects the values of an output."""
    match output.word:
        case "sum" | "avg":
            return Total()
        case "min" | "max":
            return _Extreme(output.word)
        case "all":
            return []
    return {}  # unique: what was seen; newest: the first of them


def _result(output: Output, count: int, part: Any) -> Any:
    match output.word:
        case "count":
            return count
        case "sum":
            return part.sum
        case "avg":
            return part.mean
        case "min" | "max":
            return part.result()
        case "all":
            return part
        case "newest":
            return next(iter(part.values()), None)
    return list(part.values())


def _identity(value: Any) -> Any:
    """Something hashable that is equal for values that ``meaning.same`` calls equal."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("list", tuple(map(_identity, value)))
    if isinstance(value, dict):
        return ("map", frozenset((name, _identity(one)) for name, one in value.items()))
    return value


def key_shown(key: Any) -> Any:
    """A key as it stands in a row: minus zero is zero."""
    return key + 0.0 if isinstance(key, float) else key


# -- rows ------------------------------------------------------------------------------------------


def finished(
    asked: Aggregation, rows: Iterable[tuple[Sequence[Any], Sequence[Any]]]
) -> list[dict[str, Any]]:
    """Rows as they are answered: named, keys first, in order.

    Args:
        asked: the request.
        rows: for each group its keys and the values of the outputs; ``$avg $min $max`` of nothing
            are None and stay out of the row, as does a date part or distance that no drop has.
    """
    left_out = {one.text for one in asked.outputs if one.word in ("avg", "min", "max", "newest")}
    answer = []
    for keys, values in rows:
        row = {key.text: value for key, value in zip(asked.keys, keys, strict=True)}
        for output, value in zip(asked.outputs, values, strict=True):
            if value is not None or output.text not in left_out:
                row.setdefault(output.text, value)
        answer.append(row)
    # Python's sort keeps the order of equals: the last one asked for goes first.
    for sort in reversed((*asked.sorts, *(Sort(key.text, False) for key in asked.keys))):
        answer = _sorted(answer, sort)
    return answer


def _sorted(rows: list[dict[str, Any]], sort: Sort) -> list[dict[str, Any]]:
    ranked = [(_rank(row.get(sort.text)), row) for row in rows]
    present = [pair for pair in ranked if pair[0]]
    present.sort(key=lambda pair: pair[0], reverse=sort.is_down)
    return [row for _, row in present] + [row for rank, row in ranked if not rank]


def _rank(value: Any) -> tuple[Any, ...]:
    """What a value is ordered by; maps and lists by their text, since they have no id."""
    if isinstance(value, dict | list):
        return (4, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    return meaning.rank(value)
