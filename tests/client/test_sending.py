"""Sending through the client and over HTTP: lines, marks, uploads, messages, payloads."""

from __future__ import annotations

import base64
import http.client
import json
from urllib.parse import urlsplit

import pytest

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from flowkit import API, NotFound, UsageError, mem
from flowkit.testing import Platform

BOX = "0f" * 16


def message(at):
    """The name of a message."""
    return f"{at:016x}"


def origin(at, **members):
    """Where an entry stands; what stands before it is said as well."""
    before = {"after": message(at - 1)} if at > 1 else {}
    line = {"box": BOX, "stream": "s", "sequence": at, "message": message(at)}
    return {**line, **before, **members}


@pytest.fixture(scope="module")
def world():
    """A platform that serves, the API over HTTP, and the API of a device of it."""
    with Platform() as opened, opened.connect() as api:
        made = api.device.create({"path": "/test/probe"})
        string = api.token.read(made["tokenId"])["tokenString"]
        with API(("test", string), host=opened.url) as device:
            yield opened, api, device, string


def test_entries_of_a_line_pass_through_create_many(world):
    """As they are, skips too; an array of them may be repeated, so the client does."""
    _, api, _, _ = world
    api.flow.create({"path": "/test/air"})
    entries = [
        {"path": "/test/air", "elems": {"n": 1}, "origin": origin(1)},
        {"origin": origin(2, to=3, message=message(3), skip="expired")},
    ]
    first = api.drop.create_many(entries)
    again = api.drop.create_many(entries, envelope=True)

    assert (first[0]["elems"], first[1]) == ({"n": 1}, {"status": 200, "skipped": 2})
    assert again.body == [{"status": 200, "duplicate": True}] * 2
    assert again.head["marks"] == [
        {"box": BOX, "stream": "s", "sequence": 3, "message": message(3)}
    ]
    marks = api.origin.read(BOX)
    assert (marks["s"]["sequence"], marks["s"]["skipped"]) == (3, 2)
    assert len(api.drop("/test/air").find()) == 1


def test_a_message_is_sent_found_and_read(world):
    """Upload, entry, drop, payload: over HTTP from end to end."""
    opened, api, device, string = world
    data = bytes(range(256)) * 9_000  # more than two answers hold
    parts = [data[at : at + 500_000] for at in range(0, len(data), 500_000)]
    address = urlsplit(opened.url)
    link = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    for n, part in enumerate(parts):
        place = f"/v4.0/test/upload/{BOX}/{message(1)}/{n}"
        link.request("PUT", place, part, {"X-Auth-Token": string})
        answer = link.getresponse()
        told = json.loads(answer.read())
        assert answer.status == 200, told
    link.close()
    assert told["body"] == {"pieces": [len(part) for part in parts], "bytes": len(data)}

    import hashlib

    claim = {"pieces": len(parts), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    api.stream.create({"group": "house", "name": "air", "messageIdPattern": "{uuid}"})
    place = {"group": "house", "stream": "air", "contentType": "image/png"}
    (stored,) = device.drop.create_many(
        [{"message": {**place, "upload": claim}, "origin": origin(1)}]
    )

    (stream,) = api.stream.find(mem.name == "air")
    (drop,) = api.drop(stream["path"]).find(mem._message.contentType == "image/png")
    assert (drop["id"], drop["elems"]["_message"]["bytes"]) == (stored["id"], len(data))
    payload = drop["elems"]["_message"]["payload"]
    assert api.payload.read(payload) == data
    assert api.payload.read(payload, offset=499_990, size=20) == data[499_990:500_010]
    assert api.payload.read(payload, offset=1, size=2_000_000) == data[1:2_000_001]
    assert api.payload.read(payload, offset=2_000_000, size=2_000_000) == data[2_000_000:]
    assert api.payload.read(payload, offset=len(data)) == b""
    assert api.payload.read(payload, size=0) == b""
    told = api.payload.read(payload, envelope=True)
    assert (told.status, told.body) == (200, data)
    with api.lazy() as graph:
        later = graph.payload.read(payload)
    assert later == data
    calls = api.async_()
    calls.payload.read(payload)
    assert list(calls.results()) == [data]
    assert api.stream.open(stream) == {"batches": [], "messages": [], "conflicts": 0}
    with pytest.raises(NotFound):
        device.payload.read(payload)


@pytest.mark.parametrize("wrong", [{"offset": -1}, {"size": 1.5}, {"offset": "0"}])
def test_a_part_of_a_payload_is_named_by_numbers(world, wrong):
    """Refused before anything is sent."""
    with pytest.raises(UsageError):
        world[1].payload.read("y" + "0" * 24, **wrong)


def test_what_is_open_is_shown(world):
    """A message in chunks, and a batch."""
    _, api, device, _ = world
    stream = api.stream.create({"group": "house", "name": "soil", "batching": True})
    place = {"group": "house", "stream": "soil", "batchId": "b"}
    device.drop.create_many(
        [
            {"message": {**place, "messageId": "1", "elems": {}}, "origin": origin(2)},
            {
                "message": {
                    **place,
                    "messageId": "2",
                    "chunkId": "1",
                    "data": base64.b64encode(b"abc").decode(),
                },
                "origin": origin(3),
            },
        ],
        raise_on_error=True,
    )
    told = api.stream.open(stream["id"])

    assert [(each["batch"], each["messages"]) for each in told["batches"]] == [("b", 1)]
    assert [(each["message"], each["bytes"]) for each in told["messages"]] == [("2", 3)]
