"""How an aggregation is run: in SQL where that says the same, else in Python over a find.

Either way it is one statement in the reader's snapshot, under its deadline and its bound in bytes.

Source: protocol 5; ``docs/reference/aggregation.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.query.params import Query
from flowkit.query.places import Places
from flowkit.server.access import checked_path, flow_at, flow_with_id
from flowkit.server.aggregate import (
    DATE_MAX_MS,
    DATE_MIN_MS,
    Groups,
    extreme,
    finished,
    too_many_rows,
)
from flowkit.server.auth import Credential
from flowkit.server.plan import Plan, plan_find
from flowkit.server.selectors import Aggregation, read_aggregation
from flowkit.server.sql import Grouping, Inexact, Parameters, Translator, conjunction
from flowkit.server.store.base import Reader, StoredDrop, StoredFlow
from flowkit.server.store.functions import RegexBudget

__all__ = ["aggregate_in", "run"]

Rows = list[dict[str, Any]]


def aggregate_in(
    reader: Reader,
    who: Credential,
    flow: str,
    options: Mapping[str, Any],
    *,
    now_ms: int,
    places: Places | None,
) -> Rows:
    """The rows of an aggregation over one flow; for callers in this process, as scripts are.

    Args:
        reader: of the job that it runs in.
        who: whose rights count.
        flow: the id or the path of the flow.
        options: ``output groupBy filter rules sorts``, as in the body of a request.
        now_ms: what AGE measures from, in ms since 1970 UTC.
        places: the table of postal codes.

    Raises:
        BadRequest: one sentence per fault of *options*; or it takes too long or grows too large.
        NotFound: there is no such flow that *who* may read.
        Forbidden: *who* may read the flow but not its drops.
    """
    asked = read_aggregation(dict(options))
    if flow.startswith("/"):
        found = flow_at(reader, who, checked_path(flow), "dropRead")
    else:
        found = flow_with_id(reader, who, flow, "dropRead")
    return run(reader, found, asked, now_ms=now_ms, places=places)[0]


def run(
    reader: Reader,
    flow: StoredFlow,
    asked: Aggregation,
    *,
    now_ms: int,
    places: Places | None,
    bytes_max: int = limits.answer_bytes_max,
) -> tuple[Rows, dict[str, Any]]:
    """The rows and the plan that made them, in words for ``explain=1``.

    Raises:
        BadRequest: it takes too long or grows too large.
        FilterError: a postal code cannot be looked up.
    """
    try:
        plan, grouping = _planned(flow, asked, now_ms, places)
        rows = _in_sql(reader, plan, grouping)
        why = None if rows is not None else "a member holds an array or a map"
    except Inexact:
        rows, why = None, "SQL has no word for a part of it"
    if rows is not None:
        return rows, _told(plan, "sql", None)
    plan = _find(flow, asked, now_ms, places)
    groups = Groups(
        asked, now_ms=now_ms, places=places, search=RegexBudget().search, bytes_max=bytes_max
    )

    def take(drop: StoredDrop) -> None:
        groups.add(drop.doc, drop.types)

    reader.find(plan, take)
    return groups.rows(), _told(plan, "python", why)


def _find(flow: StoredFlow, asked: Aggregation, now_ms: int, places: Places | None) -> Plan:
    """The find of every drop that takes part, the newest first."""
    query = Query(filter=asked.filter, limit=limits.find_limit_max)
    return plan_find("drop", query, now_ms=now_ms, flow=flow, places=places)


def _planned(
    flow: StoredFlow, asked: Aggregation, now_ms: int, places: Places | None
) -> tuple[Plan, Grouping]:
    """The statement that groups; raises ``Inexact`` where SQL cannot say the same."""
    parameters = Parameters()
    constants = {"flowId": flow.id, "path": flow.path}
    translator = Translator("drop", parameters, constants=constants, now_ms=now_ms, places=places)
    conditions, rest = translator.split(asked.filter)
    if rest:
        raise Inexact
    grouping = Grouping(asked, translator, (DATE_MIN_MS, DATE_MAX_MS))
    scope = conjunction(["until IS NULL", f"flow = {parameters.add(flow.key)}", *conditions])
    sql = grouping.statement(scope, limits.aggregate_rows_max + 1)
    plan = Plan(
        resource="drop",
        sql=sql,
        params=parameters.of(sql),
        flow=flow,
        start=0,
        limit=limits.aggregate_rows_max,
        rest=None,
        now_ms=now_ms,
        places=places,
        where=conjunction(conditions),
        index=None,
        made=tuple,
    )
    return plan, grouping


def _in_sql(reader: Reader, plan: Plan, grouping: Grouping) -> Rows | None:
    """The rows of the statement; None if one of them holds what Python has to look at."""
    asked = grouping.asked
    answer = []
    for row in reader.find(plan).objects:
        trouble, keys, found = grouping.read(row)
        if trouble:
            return None
        values = [
            extreme(output.word, *columns) if len(columns) > 1 else columns[0]
            for output, columns in zip(asked.outputs, found, strict=True)
        ]
        answer.append((keys, values))
    if len(answer) > limits.aggregate_rows_max:
        raise too_many_rows()
    return finished(asked, answer)


def _told(plan: Plan, where: str, why: str | None) -> dict[str, Any]:
    told = plan.describe()
    del told["limitIn"]
    return {**told, "groupsIn": where, "why": why}
