"""The campaign of aggregations: the server's rows against the plain evaluation of the documents.

``python tests/together/aggregates.py --pairs 100000 --seconds 600 --seed 1`` draws batches of drops
and requests as ``agreement.py`` draws filters, and compares the rows of each, text by text. It
prints one summary line and ends with 1 at the first disagreement, which it shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowkit.query.match import predicate
from flowkit.query.render import render
from flowkit.server.aggregate import Groups
from flowkit.server.aggregate_plan import run
from flowkit.server.selectors import DATE_PARTS, Aggregation, read_aggregation
from flowkit.server.store.reading import House, Reading

sys.path.append(str(Path(__file__).parents[1]))
from together.agreement import (  # found by the line above in a script
    FLOW,
    NOW_MS,
    Batch,
    Draw,
    draw_batch,
    places,
)

WORDS = ("sum", "avg", "min", "max", "sum", "avg", "min", "max", "unique", "all")
NEAR = "location WITHIN 500 KM OF [59.91,10.75]"
OWN = ("creationDate", "lastEditDate", "version", "fhash", "path", "location.lat", "creatorId")
NAMES = ("a", "b", "c", "temp", "tags", "a.b", "elems.a", "location", "b.temp", "a.0", "é😀")


class Requests:
    """Draws requests."""

    def __init__(self, draw: Draw) -> None:
        self.draw, self.one, self.some = draw, draw.one, draw.random.random

    def member(self, rules: Sequence[str]) -> str:
        """A member or a rule."""
        at = self.some()
        if at < 0.2 and rules:
            return str(self.one(rules))
        return str(self.one(OWN if at < 0.4 else NAMES[: 5 if at < 0.8 else None]))

    def key(self, rules: Sequence[str]) -> str:
        """A key to group by."""
        at = self.some()
        if at < 0.3:
            part = f"${self.one(DATE_PARTS)}"
            return part if at < 0.2 else f"{part}:{self.one(('lastEditDate', 'a', 'temp'))}"
        if at < 0.35 and "near" in rules:
            return "distance:near"
        return self.member(rules)

    def output(self, rules: Sequence[str]) -> str:
        """A selector."""
        at = self.some()
        if at < 0.15:
            return "$count"
        if at < 0.2:
            return f"${self.one(DATE_PARTS)}"
        if at < 0.23 and "near" in rules:
            return "$distance:near"
        return f"${self.one(WORDS[: 8 if at < 0.9 else None])}:{self.member(rules)}"

    def body(self) -> dict[str, Any]:
        """A request."""
        rules = {}
        if self.some() < 0.4:
            rules["odd"] = render(self.draw.filter(1))
        if self.some() < 0.1:
            rules["near"] = NEAR
        count = self.draw.random.randrange
        keys = [self.key(list(rules)) for _ in range(self.one((0, 1, 1, 2, 3)))]
        outputs = [self.output(list(rules)) for _ in range(1 + count(4))]
        named = [*keys, *outputs]
        sorts = [self.one(named) + self.one(("", ":asc", ":desc")) for _ in range(count(3))]
        body: dict[str, Any] = {"output": outputs, "groupBy": keys, "rules": rules, "sorts": sorts}
        if self.some() < 0.4:
            body["filter"] = render(self.draw.filter(1))
        return body


def plainly(batch: Batch, asked: Aggregation) -> list[dict[str, Any]]:
    """The rows by the meaning alone."""
    passes = predicate(asked.filter)
    groups = Groups(asked, now_ms=NOW_MS, places=places)
    newest = sorted(
        batch.documents, key=lambda pair: (pair[0]["creationDate"], pair[0]["id"]), reverse=True
    )
    for doc, types in newest:
        if passes(doc, NOW_MS, places, types):
            groups.add(doc, types)
    return groups.rows()


def by_server(batch: Batch, asked: Aggregation) -> tuple[list[dict[str, Any]], str]:
    """The rows of the server and where they were made."""
    reader = Reading(batch.connection, House("e", lambda: NOW_MS))
    with reader.deadline(None):
        rows, plan = run(reader, FLOW, asked, now_ms=NOW_MS, places=places)
    return rows, plan["groupsIn"]


def disagreement(batch: Batch, body: dict[str, Any]) -> tuple[str | None, str]:
    """What the two say differently about a request, None for nothing; and where it ran."""
    asked = read_aggregation(body)
    found, where = by_server(batch, asked)
    wanted = plainly(batch, asked)
    if json.dumps(found) == json.dumps(wanted):
        return None, where
    shown = next((pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]), None)
    told = f"request {json.dumps(body)}\nrows    {len(found)} and {len(wanted)}\nfirst   {shown}\n"
    return f"{told}found   {found[:5]}\nwanted  {wanted[:5]}\nin      {where}", where


def campaign(pairs: int, seconds: float, seed: object, *, size: int = 60, asks: int = 50) -> int:
    """Run until *pairs* of drop and request are compared or the time is up; the exit code."""
    began, done, number, kinds = time.monotonic(), 0, 0, Counter[str]()
    wrong = None
    while done < pairs and time.monotonic() - began < seconds and not wrong:
        draw = Draw(f"aggregates {seed}.{number}")
        number += 1
        batch = draw_batch(draw, draw.random.randrange(size))
        requests = Requests(draw)
        for _ in range(asks):
            wrong, where = disagreement(batch, requests.body())
            if wrong:
                print(wrong)
                break
            kinds[where] += 1
            done += len(batch.documents)
        batch.connection.close()
    total = max(1, sum(kinds.values()))
    print(
        f"aggregates: seed {seed}: {done:,} pairs ({total:,} requests, {number} batches) in"
        f" {time.monotonic() - began:.0f} s: {1 if wrong else 0} disagreements;"
        f" {100 * kinds['sql'] / total:.0f} % grouped by SQL",
        flush=True,
    )
    return 0 if done >= pairs and not wrong else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000, help="pairs to compare")
    parser.add_argument("--seconds", type=float, default=600, help="time allowed")
    parser.add_argument("--seed", default="1", help="another seed draws other pairs")
    given = parser.parse_args(arguments)
    return campaign(given.pairs, given.seconds, given.seed)


if __name__ == "__main__":
    sys.exit(main())
