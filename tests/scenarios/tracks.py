"""Tracks and their simulation: protocol 1.6, 6."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.scenarios.finds import Sample, crud
from tests.scenarios.scenario import ANYTHING, Scenario, drop, flow, made

SOURCE, SINK = flow("source", "/nora/source"), flow("sink", "/nora/sink")
WAY = {"source": "/nora/source", "destination": "/nora/sink"}

TRACK = Sample(
    kind="track",
    route="track",
    given=(SOURCE, SINK),
    body={**WAY, "description": "hot", "filter": "temp > 30"},
    second={**WAY, "destination": ["/nora/sink"]},
    shown={**WAY, "filter": "temp > 30", "description": "hot"},
    second_shown={**WAY, "destination": ["/nora/sink"]},
    passing="description == 'hot'",
    references={"<source>": ANYTHING, "<sink>": ANYTHING},
    change={"description": "warm"},
    changed_shown={"description": "warm"},
    made=("place of <first> made",),
    removed=("place of <first> removed",),
    inbox="TRACK",
)


def _deliveries() -> Iterator[Scenario]:
    written = Scenario(
        name="a drop waits for the tracks of its flow, in the commit that wrote it",
        given=(SOURCE, SINK, made("track", "track", **WAY)),
        method="POST",
        target="/drop/<source>",
        body={"elems": {"temp": 5}},
        status=201,
        answer={
            "id": "<new>",
            "flowId": "<source>",
            "path": "/nora/source",
            "creationDate": "<now>",
            "creatorId": "<nora>",
            "version": 0,
            "elems": {"temp": 5},
        },
        effects=(
            "row begun in /nora/source: create <new>",
            "delivery waits at /nora/source: <new>",
            "flowDropAdded of <source> +1",
            "dropCreatedBy of <nora> +1",
        ),
    )
    yield written
    yield replace(
        written,
        name="nothing waits for a disabled track",
        given=(SOURCE, SINK, made("track", "track", **WAY, disabled=True)),
        effects=tuple(line for line in written.effects if "waits" not in line),
    )
    yield Scenario(
        name="a track needs its source and destination to be there",
        method="POST",
        target="/track",
        body=WAY,
        status=400,
        errors=(
            "source: there is no Flow at /nora/source",
            "destination: there is no Flow at /nora/sink",
        ),
    )
    yield Scenario(
        name="a change of a drop is delivered to no track",
        given=(SOURCE, SINK, drop("first", "source", {"n": 1}), made("track", "track", **WAY)),
        method="PUT",
        target="/drop/<source>/<first>/elems",
        body={"elems": {"n": 2}},
        answer={"elems": {"n": 2}},
        effects=(
            "row begun in /nora/source: update <first>",
            "row ended in /nora/source: update <first>",
        ),
    )


def _simulations() -> Iterator[Scenario]:
    simulated = Scenario(
        name="a track is run on one drop without any effect",
        given=(SOURCE, SINK),
        method="POST",
        target="/track/simulate",
        body={"drop": {"elems": {"a": 1}}, "filter": "a > 0", "destination": "/nora/sink"},
        answer={"drops": [{"elems": {"a": 1}}], "log": [], "errors": []},
    )
    yield simulated
    yield replace(
        simulated,
        name="a simulated drop that fails the filter goes nowhere",
        body={"drop": {"elems": {"a": 0}}, "filter": "a > 0", "destination": "/nora/sink"},
        answer={"drops": [], "log": [], "errors": []},
    )
    tested = Scenario(
        name="a track is run over what its source holds without any effect",
        given=(
            SOURCE,
            SINK,
            drop("first", "source", {"a": 1}),
            drop("second", "source", {"a": 0}),
            made("track", "track", **WAY, filter="a > 0"),
        ),
        method="POST",
        target="/track/backtest",
        body={"track": "<track>"},
        answer={
            "seen": 2,
            "passed": 1,
            "stopped": 1,
            "failed": 0,
            "delivered": {"/nora/sink": 1},
            "refused": {},
            "drops": ANYTHING,
            "failures": [],
            "complete": True,
        },
    )
    yield tested
    for one in (simulated, tested):
        yield replace(one, name=f"{one.name}: indented", params={"pretty": "1"}, is_indented=True)


TABLE = (*crud(TRACK), *_deliveries(), *_simulations())
"""Scenarios of tracks."""
