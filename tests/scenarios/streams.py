"""Streams and messages of devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.scenarios.finds import Sample, crud
from tests.scenarios.scenario import ANYTHING, Given, Scenario, flow, made
from tests.scenarios.sending import BOX, mark, origin

AIR = {"group": "house", "name": "air", "path": "/nora/streams/house/air"}
SOIL = {"group": "house", "name": "soil", "path": "/nora/streams/house/soil"}
STREAM = Sample(
    kind="stream",
    route="stream",
    given=(flow("airs", AIR["path"]), flow("soils", SOIL["path"])),
    body={"group": "house", "name": "air", "description": "first"},
    second={"group": "house", "name": "soil"},
    shown={**AIR, "concatenation": "none", "description": "first", "flowId": "<airs>"},
    second_shown={**SOIL, "concatenation": "none", "flowId": "<soils>"},
    passing="description == 'first'",
    change={"description": "again"},
    changed_shown={"description": "again"},
    inbox="STREAM",
    references={"<airs>": ANYTHING},
    second_references={"<soils>": ANYTHING},
)

HOUSE = Given(
    "house", "/stream", {"group": "house", "name": "air", "messageIdPattern": "{counter}"}
)


def sent(at: int, **members: Any) -> dict[str, Any]:
    """An entry with a message."""
    return {"message": {"group": "house", "stream": "air", **members}, "origin": origin(at)}


def _messages() -> Iterator[Scenario]:
    refused = {
        "status": 403,
        "errors": ["message: it takes the right of a Device, whose Token this is not"],
    }
    stored = {"status": 201, "id": "<new>", "flowId": "<house.flowId>", "messageId": "1"}
    yield Scenario(
        name="a message of a device becomes a drop",
        given=PAYLOAD[:3],
        method="POST",
        target="/drop",
        secret="<key.tokenString>",
        body=[sent(1, elems={"temp": 7})],
        status=201,
        answer=[stored],
        head={"marks": [mark(1)]},
        effects=(
            "row begun in /nora/streams/house/air: create <new>",
            "flowDropAdded of <house.flowId> +1",
            "dropCreatedBy of <nora> +1",
            "mark of <probe> in air: 1, 0 skipped",
            "feed made: <probe> to <house>, 1",
            "message name made: <probe> to <house>, 1",
        ),
    )
    yield Scenario(
        name="the master token sends no messages",
        given=(HOUSE,),
        method="POST",
        target="/drop",
        body=[sent(1, elems={"temp": 7})],
        status=207,
        answer=[refused],
        head={"marks": [{"box": BOX, "stream": "air", "sequence": 0}]},
    )


PAYLOAD = (
    HOUSE,
    made("probe", "device", path="/nora/probe"),
    Given("key", "/token/<probe.tokenId>", None, method="GET"),
    Given("said", "/drop", [sent(1, data="aGVsbG8=")], secret="<key.tokenString>"),
    Given("kept", "/drop/<said.flowId>/<said>", None, method="GET"),
)
"""A message of a device with the payload ``hello``."""


def _payloads() -> Iterator[Scenario]:
    told = {"id": "<kept.elems._message.payload>", "flowId": "<said.flowId>", "bytes": 5}
    whole = Scenario(
        name="a payload is read",
        given=PAYLOAD,
        method="GET",
        target="/payload/<kept.elems._message.payload>",
        answer={**told, "offset": 0, "data": "aGVsbG8="},
    )
    yield whole
    yield replace(whole, name=f"{whole.name}: indented", params={"pretty": "1"}, is_indented=True)
    yield replace(
        whole,
        name=f"{whole.name}: from its second byte on",
        params={"offset": "1"},
        answer={**told, "offset": 1, "data": "ZWxsbw=="},
    )
    yield replace(
        whole,
        name=f"{whole.name}: two bytes",
        params={"size": "2"},
        answer={**told, "offset": 0, "data": "aGU="},
    )


def _asks() -> Iterator[Scenario]:
    place = "/stream/<house>/open"
    asked = Scenario(
        name="a stream in which nothing is open",
        given=(HOUSE,),
        method="GET",
        target=place,
        answer={"batches": [], "messages": [], "conflicts": 0},
    )
    yield asked
    yield replace(asked, name=f"{asked.name}: indented", params={"pretty": "1"}, is_indented=True)


TABLE = (*crud(STREAM), *_messages(), *_payloads(), *_asks())
"""Scenarios of streams and messages."""
