"""A query as a plan: what the database does, and what is left for Python.

``plan_find`` turns a ``Query`` into one statement. If SQL can say the whole filter exactly, it also
counts out ``start`` and ``limit``; otherwise the rows come in order and whoever runs the plan asks
``remainder`` for each and counts. Either way the answer is the same.

Source: protocol 3.6 (order of types, ties), 4.2 (bare names in ``sort``), ``positions`` 1
(live rows).
"""

# ruff: noqa: S608 - every part of a statement here is a text of ours; what users wrote is a parameter

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowkit.errors import BadRequest
from flowkit.query import meaning, patterns
from flowkit.query.match import predicate
from flowkit.query.nodes import And, Filter, Path
from flowkit.query.places import Places
from flowkit.server.fields import FIELDS, TABLES, Field, index_step, json_path
from flowkit.server.sql import Parameters, Translator, conjunction
from flowkit.server.store.base import StoredDrop, StoredFlow
from flowkit.server.store.rows import (
    DROP_COLUMNS,
    FLOW_COLUMNS,
    IDENTITY_COLUMNS,
    drop_from_row,
    flow_from_row,
    identity_from_row,
)

if TYPE_CHECKING:
    from flowkit.query.params import Query

__all__ = ["Plan", "plan_find"]

Search = Callable[[Any, str], bool]

_COLUMNS = {"drop": DROP_COLUMNS, "flow": FLOW_COLUMNS, "identity": IDENTITY_COLUMNS}

_PREFIXES_MAX = 200
"""Most path prefixes that are written out; SQLite allows a chain of a thousand."""

_SORT_INDEXES_MAX = 4
"""Most array indexes in a sort member; each doubles the expression."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one find is run.

    Attributes:
        resource: ``drop``, ``flow`` or ``identity``.
        sql, params: the statement; with a remainder it has no limit.
        flow: the flow of the drops, None for other resources.
        start, limit: the results wanted; in the statement if there is no remainder.
        rest: the part of the filter that Python must ask; None if SQL says all of it.
        now_ms, places: the surroundings of *rest*.
        where: the condition of the filter alone, for ``describe``.
        index: the index that finds the rows, for ``describe``.
        made: what a row becomes, where that is no object.
    """

    resource: str
    sql: str
    params: tuple[Any, ...]
    flow: StoredFlow | None
    start: int
    limit: int
    rest: Filter | None
    now_ms: int
    places: Places | None
    where: str
    index: str | None
    made: Callable[[tuple[Any, ...]], Any] | None = None

    def statement(self) -> tuple[str, tuple[Any, ...]]:
        """The text of the statement and its parameters."""
        return self.sql, self.params

    def document(self, row: tuple[Any, ...]) -> Any:
        """The whole object of a row: a ``StoredDrop``, or the members of another resource."""
        if self.made is not None:
            return self.made(row)
        if self.flow is not None:
            return drop_from_row(row, self.flow.id, self.flow.path)
        return flow_from_row(row, "").doc if self.resource == "flow" else identity_from_row(row)

    @property
    def remainder(self) -> Callable[[Any], bool] | None:
        """Whether an object of ``document`` passes what SQL could not say; None if SQL said all."""
        return self.accepts(patterns.search)

    def accepts(self, search: Search) -> Callable[[Any], bool] | None:
        """``remainder`` with a *search* of its own, which may count the time of patterns."""
        if self.rest is None:
            return None
        asked, now_ms, places = predicate(self.rest, self.resource), self.now_ms, self.places

        def passes(found: Any) -> bool:
            if isinstance(found, StoredDrop):
                return asked(found.doc, now_ms, places, found.types, search)
            return asked(found, now_ms, places, None, search)

        return passes

    def describe(self) -> dict[str, Any]:
        """The plan in plain words and text, the answer to ``explain=1``."""
        return {
            "sql": self.sql,
            "parameters": len(self.params),
            "filterInSql": self.where,
            "filterInPython": None if self.rest is None else str(self.rest),
            "limitIn": "sql" if self.rest is None else "python",
            "index": self.index,
        }


def plan_find(
    resource: str,
    query: Query,
    *,
    now_ms: int,
    flow: StoredFlow | None = None,
    under: Sequence[str] = (),
    hides_system: bool = False,
    places: Places | None = None,
) -> Plan:
    """The plan of a find.

    Args:
        resource: ``drop``, ``flow`` or ``identity``.
        query: its filter, start, limit, sort and order; ``only`` is for whoever shows the objects.
        now_ms: the time of the request, in ms since 1970 UTC.
        flow: the flow to search, for drops.
        under: what may be seen. For flows: path prefixes of whole segments; for identities: ids.
            With none, nothing is found.
        hides_system: for flows: whether those with a segment that begins with ``:`` are left out.
        places: the table of postal codes.

    Raises:
        FilterError: the filter has a pattern or postal code that cannot be used.
        BadRequest: the sort member has too many array indexes.
    """
    parameters = Parameters()
    if resource == "drop":
        assert flow is not None, "a find of drops is in one flow"
        scope = ["until IS NULL", f"flow = {parameters.add(flow.key)}"]
        constants = {"flowId": flow.id, "path": flow.path}
    else:
        scope, constants = [_visible(resource, under, parameters)], {}
        if hides_system:
            scope.append("instr(path, '/:') = 0")
    translator = Translator(resource, parameters, constants=constants, now_ms=now_ms, places=places)
    conditions, rest = translator.split(query.filter)
    asked = conditions if resource == "drop" else _after(scope, conditions)
    order, in_order = _order(resource, query, parameters)
    # Each part is a text of ours with numbered parameters: see sql/ and fields.py.
    sql = (
        f"SELECT {_COLUMNS[resource]} FROM {TABLES[resource]}"
        f" WHERE {conjunction([*scope, *asked])} ORDER BY {order}"
    )
    if not rest:
        sql += f" LIMIT {parameters.add(query.limit)} OFFSET {parameters.add(query.start)}"
    return Plan(
        resource=resource,
        sql=sql,
        params=parameters.of(sql),
        flow=flow,
        start=query.start,
        limit=query.limit,
        rest=None if not rest else rest[0] if len(rest) == 1 else And(tuple(rest)),
        now_ms=now_ms,
        places=places,
        where=conjunction(conditions),
        index=_index(resource, conditions, in_order=in_order),
    )


def _after(scope: Sequence[str], conditions: Sequence[str]) -> list[str]:
    """The conditions, those that call Python asked of the rows in the scope alone.

    SQLite may ask the parts of an AND in another order, those of a CASE it may not. A pattern that
    runs over what may not be seen tells of it by the time it takes.
    """
    called = [each for each in conditions if "fk_" in each]
    if not called:
        return list(conditions)
    others = [each for each in conditions if "fk_" not in each]
    guarded = f"(CASE WHEN {conjunction(scope)} THEN {conjunction(called)} ELSE 0 END)"
    return [*others, guarded]


def _visible(resource: str, under: Sequence[str], parameters: Parameters) -> str:
    """The rows that may be seen at all."""
    if not under:
        return "0"
    if resource == "identity":
        return f"id IN ({', '.join(parameters.add(one) for one in under)})"
    if len(under) > _PREFIXES_MAX:
        prefixes = parameters.add(json.dumps(list(under)))
        return (
            f"EXISTS (SELECT 1 FROM json_each({prefixes}) WHERE flow.path = value OR"
            " (flow.path > value || '/' AND flow.path < value || '0'))"
        )
    # Everything below /a starts with "/a/"; "0" is the character after "/".
    ranges = [
        f"path = {parameters.add(prefix)} OR"
        f" (path > {parameters.add(prefix + '/')} AND path < {parameters.add(prefix + '0')})"
        for prefix in (one.rstrip("/") for one in under)
    ]
    return f"({' OR '.join(ranges)})"


# -- order ----------------------------------------------------------------------------------------


def _order(resource: str, query: Query, parameters: Parameters) -> tuple[str, bool]:
    """The ORDER BY of a query, and whether the index by date gives it without sorting."""
    way = "DESC" if query.order == "desc" else "ASC"
    path = meaning.resolve(query.sort_path, resource)
    field = FIELDS[resource].get(path[0])
    if field is not None and field.kind != "json" and len(path) == 1:
        return _column_order(field, way), resource == "drop" and path == ("creationDate",)
    if field is None or field.kind != "json":
        return f"id {way}", False
    return _json_order(field, path[1:], way, parameters), False


def _column_order(field: Field, way: str) -> str:
    last = f"{field.column} IS NULL, " if field.nullable else ""
    ties = "" if field.column == "id" else f", id {way}"
    return f"{last}{field.column} {way}{ties}"


def _json_order(field: Field, inside: Path, way: str, parameters: Parameters) -> str:
    """Numbers, strings, false, true, everything else; absent and null last in both directions
    (3.6)."""
    path = _json_way(field.column, inside, parameters)
    kind = f"json_type({field.column}, {path})"
    rank = (
        f"CASE {kind} WHEN 'integer' THEN 0 WHEN 'real' THEN 0 WHEN 'text' THEN 1"
        " WHEN 'false' THEN 2 WHEN 'true' THEN 3 WHEN 'array' THEN 4 WHEN 'object' THEN 4 END"
    )
    value = f"CASE WHEN {kind} IN ('integer','real','text') THEN {field.column} ->> {path} END"
    return f"ifnull({kind}, 'null') = 'null', {rank} {way}, {value} {way}, id {way}"


def _json_way(column: str, inside: Path, parameters: Parameters) -> str:
    """The JSON path of a sort member; a number is an index where it meets an array."""
    if sum(map(meaning.is_index, inside)) > _SORT_INDEXES_MAX:
        raise BadRequest(f"sort: more than {_SORT_INDEXES_MAX} array indexes in one member")
    way = parameters.add("$")
    for segment in inside:
        key, step = parameters.add(json_path((segment,))[1:]), index_step(segment)
        if step is not None:
            kind = f"json_type({column}, {way})"
            key = f"CASE {kind} WHEN 'array' THEN {parameters.add(step)} ELSE {key} END"
        way = f"({way} || {key})"
    return way


def _index(resource: str, conditions: Sequence[str], *, in_order: bool) -> str | None:
    """The index that finds a flow's drops; None where no index helps. Tests ask SQLite itself."""
    if resource != "drop":
        return None
    if any(condition.startswith("fhash = ") for condition in conditions):
        return "live_by_fhash"
    return "live_by_date" if in_order else None
