"""Aggregation and statistics: protocol 5, 10."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.scenarios.scenario import ANYTHING, Scenario, drop, flow

FIELD = flow("field", "/nora/field")
DROPS = (
    drop("first", "field", {"bench": "3", "temp": 35}),
    drop("second", "field", {"bench": "3", "temp": 25}),
    drop("third", "field", {"bench": "1", "temp": 21}),
)


def _indented(one: Scenario) -> Iterator[Scenario]:
    yield one
    yield replace(
        one, name=f"{one.name}: indented", params={**one.params, "pretty": "1"}, is_indented=True
    )


def _aggregations() -> Iterator[Scenario]:
    yield from _indented(
        Scenario(
            name="drops are aggregated in groups",
            given=(FIELD, *DROPS),
            method="POST",
            target="/drop/<field>/aggregate",
            body={
                "rules": {"hot": "temp > 30"},
                "groupBy": ["bench"],
                "output": ["$count", "$avg:temp", "$avg:hot"],
                "sorts": ["$avg:hot:desc", "bench:asc"],
            },
            answer=[
                {"bench": "3", "$count": 2, "$avg:temp": 30.0, "$avg:hot": 0.5},
                {"bench": "1", "$count": 1, "$avg:temp": 21.0, "$avg:hot": 0.0},
            ],
        )
    )
    yield Scenario(
        name="drops are aggregated with a plan",
        given=(FIELD, *DROPS),
        method="POST",
        target="/drop/<field>/aggregate",
        params={"explain": "1"},
        body={"output": ["$count"]},
        answer=[{"$count": 3}],
        head={"plan": ANYTHING},
    )
    yield Scenario(
        name="without groups there is one row",
        given=(FIELD, *DROPS),
        method="POST",
        target="/drop/<field>/aggregate",
        body={"output": ["$count", "$sum:temp"], "filter": "temp > 22"},
        answer=[{"$count": 2, "$sum:temp": 60}],
    )


def _statistics() -> Iterator[Scenario]:
    place = "/statistics/flowDropAdded/<field>"
    base = Scenario(name="", given=(FIELD, *DROPS[:2]), method="GET", target=place)
    # the clock of the scenarios stands at the ninth of December 2017, 16 o'clock UTC
    year = [0] * 11 + [2]
    month = [0] * 8 + [2] + [0] * 22
    day = [0] * 16 + [2] + [0] * 7
    for said, below, level, answer, levelled in (
        ("by year", "", "MONTH", [2], year),
        ("of a year", "/2017", "YEAR", year, [2]),
        ("of a month", "/2017/12", "MONTH", month, [2]),
        ("of a day", "/2017/12/9", "DAY", day, [2]),
    ):
        one = replace(
            base, name=f"drops added are counted {said}", target=place + below, answer=answer
        )
        yield from _indented(one)
        yield replace(
            one, name=f"{one.name}: at another level", params={"level": level}, answer=levelled
        )


TABLE = (*_aggregations(), *_statistics())
"""Scenarios of aggregation and statistics."""
