"""Drops: protocol 1.4, 3.5, 3.6, and the array create of 12."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.scenarios.finds import finds
from tests.scenarios.scenario import ANYTHING, Scenario, drop, flow, pushed

FIELD = flow("field", "/nora/field", capacity=2)
FIRST = drop("first", "field", {"temp": 5}, fhash="bench")
SECOND = drop("second", "field", {"temp": 9})
GIVEN = (FIELD, FIRST, SECOND)
POSITION = {"position": ANYTHING}
REFERENCES = {"<nora>": ANYTHING, "<field>": ANYTHING}
CREATED = ("flowDropAdded of <field> +1", "dropCreatedBy of <nora> +1")
"""What is counted when a drop is created, or replaces another."""


def shown(name: str, elems: dict[str, Any], *, at: str = "", **members: Any) -> dict[str, Any]:
    """A drop of the field as it is answered."""
    return {
        "id": f"<{name}>",
        "flowId": "<field>",
        "path": "/nora/field",
        "creationDate": at or f"<{name}.creationDate>",
        "creatorId": "<nora>",
        "version": 0,
        "elems": elems,
        **members,
    }


OLD = shown("first", {"temp": 5}, fhash="bench")
NEW = shown("second", {"temp": 9})
CHANGED = {"version": 1, "lastEditDate": "<now>", "lastEditorId": "<nora>"}


def typed(doc: dict[str, Any]) -> dict[str, Any]:
    """The same drop with typed elements."""
    return {**doc, "elems": {"temp": {"type": "integer", "value": doc["elems"]["temp"]}}}


def part(doc: dict[str, Any]) -> dict[str, Any]:
    """The same drop with one element alone."""
    return {"id": doc["id"], "elems": {"temp": doc["elems"]["temp"]}}


def each_way(base: Scenario, *docs: dict[str, Any], head: str = "position") -> Iterator[Scenario]:
    """A request whose answer holds *docs*, plain and with each parameter of such answers."""

    def answer(change: Any) -> Any:
        if isinstance(base.answer, list):
            return [change(doc) if doc in docs else doc for doc in base.answer]
        if base.answer in docs:
            return change(base.answer)
        return {key: answer_of(doc, change) for key, doc in base.answer.items()}

    def answer_of(doc: Any, change: Any) -> Any:
        return [change(one) for one in doc] if isinstance(doc, list) else change(doc)

    heads = {head: ANYTHING}
    yield base
    yield _with(base, "typed", {"hints": "1"}, answer=answer(typed))
    yield _with(base, "in part", {"only": "temp"}, answer=answer(part))
    yield _with(base, "with what they refer to", {"refs": "1"}, references=REFERENCES)
    yield _with(base, "with the position", {"positions": "1"}, head=heads)
    yield _with(base, "indented", {"pretty": "1"}, is_indented=True)


def _with(base: Scenario, said: str, params: dict[str, str], **changes: Any) -> Scenario:
    return replace(base, name=f"{base.name}: {said}", params={**base.params, **params}, **changes)


def _finds() -> Iterator[Scenario]:
    by_id = Scenario(name="", given=GIVEN, method="GET", target="/drop/<field>")
    by_path = replace(by_id, target="/drop", params={"path": "/nora/field"})
    for what, base in (("drops of a flow", by_id), ("drops of the flow at a path", by_path)):
        yield from finds(
            what,
            base,
            [NEW, OLD],
            passing=("temp < 6", [OLD]),
            references=REFERENCES,
            sort="fhash",
        )
        plain = replace(base, name=what, answer=[NEW, OLD])
        for one in each_way(plain, NEW, OLD):
            if {"hints", "positions"} & set(one.params):
                yield one
    several = Scenario(
        name="drops of several flows",
        given=GIVEN,
        method="MGET",
        target="/drop",
        body=[{"flowId": "<field>"}, {"flowId": "f" + "0" * 24}],
        answer={"<field>": [NEW, OLD]},
    )
    yield from each_way(several, NEW, OLD, head="positions")
    one_of = {"<field>": [OLD]}
    for said, params, answer in (
        ("that pass a filter", {"filter": "temp < 6"}, one_of),
        ("from the second on", {"start": "1"}, one_of),
        ("from the second on by the other name", {"skip": "1"}, one_of),
        ("up to a limit", {"limit": "1"}, {"<field>": [NEW]}),
        ("sorted by an element", {"sort": "temp", "order": "asc"}, {"<field>": [OLD, NEW]}),
        ("sorted by a member", {"sort": "fhash"}, {"<field>": [OLD, NEW]}),
        ("the oldest first", {"order": "asc"}, {"<field>": [OLD, NEW]}),
    ):
        yield _with(several, said, params, answer=answer)
    yield _with(several, "with a plan", {"explain": "1"}, head={"plans": ANYTHING})
    yield replace(
        several,
        name="each flow of several is asked for something else",
        body=[{"flowId": "<field>", "params": {"limit": 1, "only": "temp"}}],
        answer={"<field>": [part(NEW)]},
    )


def _reads() -> Iterator[Scenario]:
    one = Scenario(
        name="a drop is read", given=GIVEN, method="GET", target="/drop/<field>/<first>", answer=OLD
    )
    many = Scenario(
        name="many drops are read",
        given=GIVEN,
        method="MGET",
        target="/drop/<field>",
        body=["<first>", "<second>", "d" + "0" * 24],
        answer={"<first>": OLD, "<second>": NEW},
    )
    yield from each_way(one, OLD)
    yield from each_way(many, OLD, NEW)
    yield Scenario(
        name="under v0.1 elements are typed unless hints says otherwise",
        given=GIVEN,
        method="GET",
        target="/drop/<field>/<first>",
        version="v0.1",
        answer=typed(OLD),
    )
    yield Scenario(
        name="under v0.1 with hints=0 elements are plain",
        given=GIVEN,
        method="GET",
        target="/drop/<field>/<first>",
        params={"hints": "0"},
        version="v0.1",
        answer=OLD,
    )


def _creates() -> Iterator[Scenario]:
    fresh = shown("new", {"temp": 7}, at="<now>")
    by_path = Scenario(
        name="a drop is created by path",
        given=(FIELD,),
        method="POST",
        target="/drop",
        body={"path": "/nora/field", "elems": {"temp": 7}},
        status=201,
        answer=fresh,
        effects=("row begun in /nora/field: create <new>", *CREATED),
    )
    by_id = replace(
        by_path,
        name="a drop is created in a flow",
        target="/drop/<field>",
        body={"elems": {"temp": 7}},
    )
    yield from each_way(by_path, fresh)
    yield from each_way(by_id, fresh)
    yield Scenario(
        name="a full flow evicts its oldest drop",
        given=GIVEN,
        method="POST",
        target="/drop/<field>",
        body={"elems": {"temp": 7}},
        status=201,
        answer=fresh,
        effects=(
            "row begun in /nora/field: create <new>",
            "row ended in /nora/field: evict <first>",
            *CREATED,
        ),
    )
    yield Scenario(
        name="a drop with an fhash that is there replaces the earlier one",
        given=GIVEN,
        method="POST",
        target="/drop/<field>",
        body={"fhash": "bench", "elems": {"temp": 1}},
        answer=shown("first", {"temp": 1}, fhash="bench") | CHANGED,
        effects=(
            "row begun in /nora/field: replace <first>",
            "row ended in /nora/field: replace <first>",
            *CREATED,
        ),
    )
    yield Scenario(
        name="a flow of capacity 0 keeps nothing",
        given=(flow("field", "/nora/field", capacity=0),),
        method="POST",
        target="/drop/<field>",
        body={"elems": {"temp": 7}},
        status=201,
        answer=fresh,
        effects=CREATED,
        pushes=("push in /nora/field: create <new>",),
    )
    yield Scenario(
        name="a drop that the flow's filter refuses is not stored",
        given=(flow("field", "/nora/field", filter="temp > 10"),),
        method="POST",
        target="/drop/<field>",
        body={"elems": {"temp": 7}},
        status=400,
        errors=("The Drop does not satisfy the Flow's filter",),
    )
    yield Scenario(
        name="a drop for a flow that is not there is refused",
        method="POST",
        target="/drop",
        body={"path": "/nora/none", "elems": {}},
        status=404,
        errors=(
            "The requested resource could not be located at this address.",
            "path: there is no Flow at /nora/none",
        ),
    )
    yield Scenario(
        name="an array of drops is created in one commit, each entry on its own",
        given=(FIELD,),
        method="POST",
        target="/drop/<field>",
        body=[{"elems": {"temp": 7}}, {"elems": 5}],
        status=207,
        answer=[fresh, {"status": 400, "errors": ["elems: must be an object"]}],
        effects=("row begun in /nora/field: create <new>", *CREATED),
    )
    yield Scenario(
        name="an array of drops that all fit answers 201",
        given=(FIELD,),
        method="POST",
        target="/drop",
        body=[{"path": "/nora/field", "elems": {"temp": 7}}],
        status=201,
        answer=[fresh],
        effects=("row begun in /nora/field: create <new>", *CREATED),
    )


def _changes() -> Iterator[Scenario]:
    after = {**OLD, "elems": {"temp": 6}, **CHANGED}
    rows = (
        "row begun in /nora/field: update <first>",
        "row ended in /nora/field: update <first>",
    )
    one = Scenario(
        name="a drop is changed",
        given=GIVEN,
        method="PUT",
        target="/drop/<field>/<first>",
        body={"elems": {"temp": 6}},
        answer=after,
        effects=rows,
    )
    many = replace(
        one,
        name="many drops are changed",
        method="MPUT",
        target="/drop/<field>",
        body={"<first>": {"elems": {"temp": 6}}},
        answer={"<first>": after},
    )
    yield from each_way(one, after)
    yield from each_way(many, after)
    member = replace(
        one,
        name="one member of a drop is changed",
        target="/drop/<field>/<first>/elems",
        answer={"elems": {"temp": 6}},
    )
    yield member
    yield _with(
        member, "typed", {"hints": "1"}, answer={"elems": {"temp": {"type": "integer", "value": 6}}}
    )
    yield _with(member, "with the position", {"positions": "1"}, head=POSITION)
    yield _with(member, "indented", {"pretty": "1"}, is_indented=True)


def _deletes() -> Iterator[Scenario]:
    ended = tuple(f"row ended in /nora/field: delete <{name}>" for name in ("first", "second"))
    gone = tuple(f"row gone from /nora/field: <{name}>" for name in ("first", "second"))
    one = Scenario(
        name="a drop is deleted",
        given=GIVEN,
        method="DELETE",
        target="/drop/<field>/<first>",
        effects=ended[:1],
    )
    every = replace(
        one, name="all drops of a flow are deleted", target="/drop/<field>", effects=ended
    )
    for base, forgotten in ((one, gone[:1]), (every, gone)):
        yield base
        forget = {"effects": forgotten, "pushes": tuple(pushed(base))}
        yield _with(base, "and forgotten at once", {"forget": "1"}, **forget)
        yield _with(base, "with the position", {"positions": "1"}, head=POSITION)
        yield _with(base, "indented", {"pretty": "1"}, is_indented=True)


TABLE = (*_finds(), *_reads(), *_creates(), *_changes(), *_deletes())
"""Scenarios of drops."""
