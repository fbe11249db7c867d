"""The agreement campaign: SQL, the predicate, the predicate of the text, and the oracle.

``python tests/together/agreement.py --pairs 1000000 --seconds 1500 --seed 1`` draws batches of
objects and filters from a small pool of names and values, so that rules meet members that exist and
types collide, runs each filter as the plan of a find over the batch, and compares the ids found
with those of the predicate, before and after a round trip through text, and with those of
``oracle.py``. It prints one summary line and ends with 1 at the first disagreement, reduced to one
object and the smallest part of the filter that still disagrees.

A seeded ``random.Random`` draws, not hypothesis: a hundred times as many pairs fit in the same
time.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from flowkit.query import chains
from flowkit.query.match import predicate
from flowkit.query.nodes import (
    COMPARISONS,
    Age,
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
    Regex,
    Within,
    Zip,
)
from flowkit.query.params import Query
from flowkit.query.parse import parse
from flowkit.query.render import render
from flowkit.server.plan import Plan, plan_find
from flowkit.server.store import functions, rows, schema
from flowkit.server.store.base import StoredDrop, StoredFlow

sys.path.append(str(Path(__file__).parents[1]))
from together.oracle import Oracle, Undecided  # found by the line above in a script

NOW_MS = 1_500_000_000_000
FLOW = StoredFlow(1, {"id": "f" + "0" * 24, "path": "/nora/north", "capacity": 9}, 0, "e", 0, 0)

# fmt: off
NAMES = (
    "a", "b", "c", "temp", "tags", "0", "1", "a.b", 'q"t', "", "é😀",
    "location", "path", "\x00x",
)
TEXTS = (
    "", "a", "b", "ab", "A", "north", "South 1", "10", "1", "é", "😀", "\uffff", "'", "a\x00b",
    "true", "null", "a\nb\n", "K", "\u212a", "/nora/north",
)
INTS = (
    -3, -1, 0, 1, 2, 3, 5, 10, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), NOW_MS, NOW_MS - 500,
)
FLOATS = (
    -1.0, -0.0, 0.0, 0.1, 0.1 + 0.2, 0.5, 1.0, 2.5, 5.5, -5.5, 10.0, 1e-7, 5e-324, 1e300, 2.0**53,
    9.3e18, 9.223372036854775807e18, NOW_MS - 500.5,
)
PATTERNS = (
    "a", "^a", "b$", "^$", "a.?", "[A-Z]", "north|south", r"\d+", "", "é", "'", "/", r"^\w+$",
    r"\s", "[^a-k]", "k", r"\p{Lu}", r"a.b", r"(?:a|b){2}", r"\x00",
)
TYPES = (
    "string", "boolean", "integer", "long", "float", "list", "map", "date", "location", "odd",
)
PLACES = (
    (59.91, 10.75), (0, 0), (60, 11), (-90, 0), (0.5, -180), (59.9, 10.7),
    (-33.9, 151.2), (90, 180),
)
NO_PLACES = ((90.5, 0), (0, 180.5), (9007199254740992.0, 1), (-1e300, 0), (1, -2**62))
MEMBERS = (
    ("creationDate",), ("lastEditDate",), ("version",), ("fhash",), ("path",), ("id",), ("flowId",),
    ("location",), ("location", "lat"), ("location", "specifiers", "city"), ("elems",),
    ("creatorId",), ("parentDropId", "flowId"), ("parentDropId",), ("lastEditorId",), ("path", "a"),
)
FLOW_MEMBERS = (
    ("id",), ("path",), ("capacity",), ("description",), ("filter",), ("public",), ("history",),
    ("creationDate",), ("lastEditDate",), ("creatorId",), ("a",), ("path", "0"),
)
# fmt: on
CODES = {"11201": (59.9, 10.7), "00501": (0.0, 0.0)}


def places(code: str) -> tuple[float, float] | None:
    """A table of two postal codes."""
    return CODES.get(code)


class Draw:
    """Draws objects and filters of one resource."""

    def __init__(self, seed: object, resource: str = "drop") -> None:
        self.random = random.Random(str(seed))
        self.one = self.random.choice
        self.resource = resource

    # -- objects

    def scalar(self) -> Any:
        """A value that is no collection."""
        at = self.random.random()
        if at < 0.1:
            return None
        if at < 0.2:
            return self.one((True, False))
        if at < 0.5:
            return self.one(INTS)
        return self.one(FLOATS if at < 0.7 else TEXTS)

    def value(self, depth: int = 3) -> Any:
        """Any value of an element."""
        at = self.random.random()
        if depth and at < 0.18:
            return [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        if depth and at < 0.36:
            return self.map(depth - 1)
        if depth and at < 0.42:
            lat, lon = self.one(PLACES + NO_PLACES)
            return self.one(({"lat": lat, "lon": lon}, [lat, lon], {"lat": "x", "lon": lon}))
        return self.scalar()

    def map(self, depth: int = 3) -> dict[str, Any]:
        """A map of some of the names."""
        return {self.one(NAMES): self.value(depth) for _ in range(self.random.randrange(5))}

    def drop(self, number: int) -> StoredDrop:
        """A Drop; its id is the number."""
        some = self.random.random
        doc: dict[str, Any] = {
            "id": f"d{number:024x}",
            "flowId": FLOW.id,
            "path": FLOW.path,
            "elems": self.map(),
            "version": self.random.randrange(3),
            "creationDate": self.one(
                (NOW_MS, NOW_MS - 1, NOW_MS - 500, NOW_MS - 10_000, NOW_MS + 5)
            ),
        }
        if some() < 0.6:
            lat, lon = self.one(PLACES)
            city = {"specifiers": {"city": self.one(TEXTS)}} if some() < 0.5 else {}
            doc["location"] = {"lat": lat, "lon": lon, **city}
        if some() < 0.5:
            doc["fhash"] = (
                f"{self.one(('a', 'north', 'x'))}{number}" if some() < 0.7 else str(number)
            )
        if some() < 0.3:
            doc["parentDropId"] = {"flowId": FLOW.id, "dropId": "d" + "1" * 24}
        if some() < 0.5:
            doc["creatorId"] = "i" + "2" * 24
        if some() < 0.5:
            doc["lastEditDate"] = self.one((NOW_MS, NOW_MS - 500))
        types = {}
        if some() < 0.3:
            types = {f"elems.{name}": self.one(TYPES) for name in doc["elems"] if name in "abc"}
        return StoredDrop(doc, types)

    def flow(self, number: int) -> dict[str, Any]:
        """A Flow as a document."""
        doc: dict[str, Any] = {
            "id": f"f{number:024x}",
            "path": f"/nora/{self.one(('north', 'a', 'b-1'))}/{number}",
            "capacity": self.one((0, 1, 5, 10, 1000)),
            "creationDate": self.one((NOW_MS, NOW_MS - 1, NOW_MS - 500)),
        }
        options = {
            "description": TEXTS,
            "filter": ("", "a == 1"),
            "public": (True, False),
            "history": (0, 1, 5),
        }
        for name, values in options.items():
            if self.random.random() < 0.6:
                doc[name] = self.one(values)
        return doc

    # -- filters

    def path(self) -> tuple[str, ...]:
        """A member: an element with or without prefix, or a member of the object itself."""
        if self.resource == "flow":
            return self.one(FLOW_MEMBERS)
        if self.random.random() < 0.25:
            return self.one(MEMBERS)
        count = self.random.choices((1, 2, 3, 4, 5), (50, 25, 15, 6, 4))[0]
        path = tuple(self.one(NAMES) for _ in range(count))
        return ("elems", *path) if self.random.random() < 0.4 or path[0].isdigit() else path

    def values(self) -> tuple[Any, ...]:
        """The values of a list."""
        return tuple(self.scalar() for _ in range(self.random.randrange(4)))

    def pattern(self) -> tuple[str, str]:
        """A pattern and its flags."""
        return self.one(PATTERNS), self.one(("", "", "i", "s", "im", "iu", "x"))

    def age(self) -> float:
        """Milliseconds."""
        return self.one((-1, 0, 1, 500, 500.5, 500.0, 10_000, 2**63 - 1, -(2**63), 1e18))

    def rule(self) -> Filter:
        """One rule."""
        one, path = self.one, self.path()
        kind = self.random.choices(
            ("==", "in", "contains", "exists", "re", "%", "m", "within", "age", "has", "matches"),
            (40, 8, 8, 6, 8, 6, 8, 6, 5, 3, 3),
        )[0]
        match kind:
            case "==":
                return Comparison(path, one(COMPARISONS), self.scalar())
            case "in":
                return In(path, self.values())
            case "contains":
                return Contains(path, self.values())
            case "exists":
                return Exists(path)
            case "re":
                return Regex(path, *self.pattern())
            case "%":
                divisor, rest = (
                    one((1, 2, -2, 3, 2.5, 0.5, 2**62, -1)),
                    one((0, 1, -1, 0.5, 1.0, -0.5)),
                )
                return Modulo(path, divisor, one(("==", "!=")), rest)
            case "m":
                return MemberComparison(path, one(COMPARISONS), self.path())
            case "within":
                place: Any = one(PLACES) if self.random.random() < 0.8 else Zip(one(tuple(CODES)))
                return Within(
                    path, one((0, 1, 50, 5000.5, 20_100)), one(("KM", "MILES", "M")), place
                )
            case "age":
                return Age(one((None, path)), one(COMPARISONS), self.age())
            case "has":
                return Has(one(TYPES))
        return Matches(*self.pattern())

    def filter(self, depth: int = 3) -> Filter:
        """A rule, or some joined."""
        at = self.random.random()
        if not depth or at < 0.5:
            return self.rule()
        if at < 0.6:
            return chains.negation(self.filter(depth - 1))
        parts = [self.filter(depth - 1) for _ in range(self.random.randrange(2, 4))]
        return chains.conjunction(parts) if at < 0.85 else chains.disjunction(parts)


@dataclass
class Batch:
    """Objects in a database of their own, and the same objects as documents."""

    resource: str
    documents: list[tuple[dict[str, Any], dict[str, str]]]
    connection: apsw.Connection = field(init=False)
    budget: functions.RegexBudget = field(init=False)

    def __post_init__(self) -> None:
        self.connection = apsw.Connection(":memory:")
        schema.create_tables(self.connection, ":memory:")
        self.budget = functions.install(self.connection)
        insert = self._insert_flow if self.resource == "flow" else self._insert_drop
        for number, (doc, types) in enumerate(self.documents, 1):
            insert(number, doc, types)

    def _insert_drop(self, number: int, doc: dict[str, Any], types: dict[str, str]) -> None:
        values = rows.drop_values(StoredDrop(doc, types))
        count = len(rows.DROP_COLUMNS.split(","))
        self.connection.execute(
            f"INSERT INTO drop_row (flow, seq, born, at, began, bytes, {rows.DROP_COLUMNS})"
            f" VALUES (1, {number}, {number}, {NOW_MS}, 'create', 1{', ?' * count})",
            values[:count],
        )

    def _insert_flow(self, number: int, doc: dict[str, Any], types: dict[str, str]) -> None:
        columns = ", ".join(rows.FLOW_MEMBERS[name] for name in doc)
        self.connection.execute(
            f"INSERT INTO flow (key, account, {columns})"
            f" VALUES ({number}, 'nora'{', ?' * len(doc)})",
            tuple(doc.values()),
        )

    def plan(self, asked: Filter) -> Plan:
        """The plan of a find of everything that matches."""
        query = Query(filter=asked, limit=len(self.documents))
        flow = FLOW if self.resource == "drop" else None
        return plan_find(
            self.resource, query, now_ms=NOW_MS, flow=flow, under=["/nora"], places=places
        )

    def by_plan(self, plan: Plan) -> set[str]:
        """The ids that a plan finds."""
        self.budget.start()
        found = [plan.document(row) for row in self.connection.execute(*plan.statement())]
        passes = plan.remainder
        docs = [
            one.doc if isinstance(one, StoredDrop) else one
            for one in found
            if passes is None or passes(one)
        ]
        return {doc["id"] for doc in docs}

    def by_oracle(self, asked: Filter) -> set[str] | None:
        """The ids of the documents that match by the oracle; None where rounding decides."""
        try:
            return {
                doc["id"]
                for doc, types in self.documents
                if Oracle(doc, self.resource, NOW_MS, places, types).holds(asked)
            }
        except Undecided:
            return None

    def by_predicate(self, asked: Filter) -> set[str]:
        """The ids of the documents that pass the predicate."""
        passes = predicate(asked, self.resource)
        return {doc["id"] for doc, types in self.documents if passes(doc, NOW_MS, places, types)}


def draw_batch(draw: Draw, size: int) -> Batch:
    """A batch of *size* objects."""
    if draw.resource == "flow":
        return Batch("flow", [(draw.flow(number), {}) for number in range(size)])
    drops = [draw.drop(number) for number in range(size)]
    return Batch("drop", [(drop.doc, dict(drop.types)) for drop in drops])


def disagreement(batch: Batch, asked: Filter, *, with_oracle: bool = True) -> str | None:
    """What the evaluators say differently about one filter, None if nothing.

    The oracle knows the patterns and units of the campaign only; other filters go without it.
    """
    read_back = parse(render(asked))
    if read_back != asked:
        return f"the text reads back as another filter:\n  {asked!r}\n  {read_back!r}"
    answers = {
        "plan": batch.by_plan(batch.plan(asked)),
        "predicate": batch.by_predicate(asked),
        "predicate of the text": batch.by_predicate(read_back),
    }
    oracle = batch.by_oracle(asked) if with_oracle else None
    if oracle is not None:
        answers["oracle"] = oracle
    if len(set(map(frozenset, answers.values()))) == 1:
        return None
    return _smallest(batch, asked, with_oracle=with_oracle)


def _smallest(batch: Batch, asked: Filter, *, with_oracle: bool) -> str:
    """The smallest part of the filter that still disagrees about one object, told in full."""
    parts = sorted(asked.walk(), key=lambda part: len(render(part)))
    for part in parts:
        held = batch.by_predicate(part)
        oracle = batch.by_oracle(part) if with_oracle else None
        wrong = (
            batch.by_plan(batch.plan(part)) ^ held or (held if oracle is None else oracle) ^ held
        )
        if wrong:
            doc, types = next(pair for pair in batch.documents if pair[0]["id"] in wrong)
            plan = batch.plan(part)
            return (
                f"filter     {render(part)!r}\nobject     {doc!r}\ntypes      {types!r}\n"
                f"predicate  {doc['id'] in held}\n"
                f"oracle     {oracle and doc['id'] in oracle}\nsql        {plan.sql}\n"
                f"parameters {plan.params!r}\nin python  {plan.rest}"
            )
    return f"filter     {render(asked)!r}: its parts agree, the whole does not"


def kind_of(plan: Plan) -> str:
    """Whether SQL, Python or both run a plan's filter."""
    if plan.rest is None:
        return "SQL"
    return "Python" if plan.where == "1" else "both"


@dataclass
class Account:
    """What a campaign has done."""

    pairs: int = 0
    filters: int = 0
    objects: int = 0
    held: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def line(self, seed: object, seconds: float, wrong: int) -> str:
        """The summary."""
        shares = ", ".join(
            f"{name} {100 * self.kinds[name] / max(1, self.filters):.0f} %"
            for name in ("SQL", "both", "Python")
        )
        held = 100 * self.held / max(1, self.pairs)
        return (
            f"agreement: seed {seed}: {self.pairs:,} pairs ({self.filters:,} filters,"
            f" {self.objects:,} objects, {held:.0f} % held) in {seconds:.0f} s:"
            f" {wrong} disagreements; run by {shares}"
        )


def campaign(
    pairs: int, seconds: float, seed: object, *, size: int = 100, filters: int = 300
) -> int:
    """Run until *pairs* are compared or the time is up; the exit code."""
    began, account, number = time.monotonic(), Account(), 0
    while account.pairs < pairs and time.monotonic() - began < seconds:
        draw = Draw(f"{seed}.{number}", "flow" if number % 8 == 7 else "drop")
        number += 1
        batch = draw_batch(draw, size)
        account.objects += size
        for _ in range(filters):
            asked = draw.filter() if draw.random.random() > 0.01 else Everything()
            wrong = disagreement(batch, asked)
            if wrong:
                print(wrong)
                print(account.line(seed, time.monotonic() - began, 1))
                return 1
            account.pairs += size
            account.filters += 1
            account.held += len(batch.by_predicate(asked))
            account.kinds[kind_of(batch.plan(asked))] += 1
        batch.connection.close()
    print(account.line(seed, time.monotonic() - began, 0), flush=True)
    return 0 if account.pairs >= pairs else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs to compare")
    parser.add_argument("--seconds", type=float, default=1_500, help="time allowed")
    parser.add_argument("--seed", default="1", help="another seed draws other pairs")
    given = parser.parse_args(arguments)
    return campaign(given.pairs, given.seconds, given.seed)


if __name__ == "__main__":
    sys.exit(main())
