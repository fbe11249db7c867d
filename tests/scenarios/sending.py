"""Sending once: ``positions`` 9."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.scenarios.drops import CREATED, shown
from tests.scenarios.scenario import Given, Scenario, flow, made

BOX = "0f" * 16
FIELD = flow("field", "/nora/field", capacity=10)
NAMES = {at: f"{at:016x}" for at in range(10)}


def origin(at: int, **members: Any) -> dict[str, Any]:
    """Where an entry stands."""
    return {"box": BOX, "stream": "air", "sequence": at, "message": NAMES[at], **members}


def sent(at: int, temp: int, **members: Any) -> dict[str, Any]:
    """A drop of a line."""
    return {"path": "/nora/field", "elems": {"temp": temp}, "origin": origin(at, **members)}


def mark(at: int) -> dict[str, Any]:
    """A mark in the head of an answer."""
    return {"box": BOX, "stream": "air", "sequence": at, "message": NAMES[at]}


BEFORE = Given("before", "/drop", [sent(1, 5)])
RANGE = {"origin": origin(3, skip="expired", to=4, message=NAMES[4])}
FIRST = {"sequence": 1, "message": NAMES[1], "skipped": 0, "skips": []}


def _sends() -> Iterator[Scenario]:
    yield Scenario(
        name="a line is begun",
        given=(FIELD,),
        method="POST",
        target="/drop",
        body=[sent(1, 7), {"origin": origin(2, skip="dropped")}],
        status=207,
        answer=[shown("new", {"temp": 7}, at="<now>"), {"status": 200, "skipped": 1}],
        head={"marks": [mark(2)]},
        effects=(
            "row begun in /nora/field: create <new>",
            *CREATED,
            "mark of /nora in air: 2, 1 skipped",
            "skip in air: 2 to 2, dropped",
        ),
    )
    again = Scenario(
        name="an entry that was stored before is not stored again, what follows it is",
        given=(FIELD, BEFORE),
        method="POST",
        target="/drop",
        body=[sent(1, 5), sent(2, 6), RANGE, sent(9, 9)],
        status=207,
        answer=[
            {"status": 200, "duplicate": True},
            shown("new", {"temp": 6}, at="<now>"),
            {"status": 200, "skipped": 2},
            {"status": 409, "errors": ["expected 5 and not 9, nothing was done"]},
        ],
        head={"marks": [mark(4)]},
        effects=(
            "row begun in /nora/field: create <new>",
            *CREATED,
            "mark of /nora in air: 4, 2 skipped",
            "skip in air: 3 to 4, expired",
        ),
    )
    yield again
    yield replace(again, name=f"{again.name}: in the flow of the address", target="/drop/<field>")
    yield Scenario(
        name="a line that somebody else has written is left alone",
        given=(FIELD, BEFORE),
        method="POST",
        target="/drop",
        body=[sent(2, 6, after=NAMES[7]), sent(3, 7)],
        status=207,
        answer=[
            {
                "status": 409,
                "errors": ["forked at 1: another message stands there than the one named"],
            }
        ]
        * 2,
        head={"marks": [mark(1)]},
    )


def _asks() -> Iterator[Scenario]:
    plain = Scenario(
        name="the marks of an outbox",
        given=(FIELD, BEFORE),
        method="GET",
        target=f"/origin/{BOX}",
        answer={"air": FIRST},
    )
    yield plain
    yield replace(plain, name=f"{plain.name}: indented", params={"pretty": "1"}, is_indented=True)
    yield replace(
        plain,
        name="the marks of a device's outbox, for its owner",
        given=(FIELD, BEFORE, made("probe", "device", path="/nora/probe")),
        params={"device": "<probe>"},
        answer={},
    )


def _uploads() -> Iterator[Scenario]:
    place = f"/upload/{BOX}/{NAMES[1]}"
    put = Scenario(
        name="a piece of an upload",
        method="PUT",
        target=f"{place}/1",
        body=b"what is long",
        answer={"pieces": [0, 12], "bytes": 12},
        effects=(
            "upload made by /nora",
            "body made: 12 bytes",
            "piece 1 made: 12 bytes",
            "bytes of a piece made: b'what is long'",
        ),
    )
    yield put
    yield replace(put, name=f"{put.name}: indented", params={"pretty": "1"}, is_indented=True)
    asked = Scenario(
        name="an upload that nobody has heard of",
        method="GET",
        target=place,
        answer={"pieces": [], "bytes": 0},
    )
    yield asked
    yield replace(asked, name=f"{asked.name}: indented", params={"pretty": "1"}, is_indented=True)


TABLE = (*_sends(), *_asks(), *_uploads())
"""Scenarios of sending."""
