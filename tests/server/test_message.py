"""Messages of devices: streams, names, payloads, batches, chunks."""

from __future__ import annotations

import base64
import hashlib
import itertools

import pytest

from flowkit import limits
from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.server.test_arrays import BOX, item, marks_of, message, origin
from tests.server.visitor import Visitor


class Sender:
    """A device that sends messages, each under the next number."""

    def __init__(self, nora, path="/nora/probe"):
        made = nora.ask("POST", "/device", {"path": path}).body
        string = nora.ask("GET", f"/token/{made['tokenId']}").body["tokenString"]
        self.id = made["id"]
        self.visitor = Visitor(nora.app, nora.clock, "nora", string)
        self.next = 1

    def entry(self, number=None, **members):
        """An entry with a message."""
        place = origin(self.next if number is None else number, first=True)
        return {"message": members, "origin": place}

    def send(self, **members):
        """Send one message; its item of the answer. What is refused is skipped."""
        answer = self.visitor.ask("POST", "/drop", [self.entry(**members)])
        (found,) = answer.body
        if "errors" in found:
            skip = {"origin": {**origin(self.next, first=True), "skip": "refused"}}
            assert self.visitor.ask("POST", "/drop", [skip]).body[0].get("skipped") == 1
        self.next += 1
        return found


@pytest.fixture
def probe(nora):
    """A device."""
    sender = Sender(nora)
    yield sender
    assert verify(nora.app.settings.data / FILE_NAME) == []


def stream(nora, name="air", group="house", **members):
    """A stream of nora's."""
    made = nora.ask("POST", "/stream", {"group": group, "name": name, **members})
    assert made.status == 201, made.errors
    return made.body


AIR = {"group": "house", "stream": "air"}


def told(nora, found, name="elems"):
    """The drops of a stream's flow, oldest first: their elements, or what they say of a message."""
    path = found["path"]
    answer = nora.ask("GET", f"/drop?path={path}&limit=1000&sort=creationDate&order=asc")
    drops = sorted(answer.body, key=lambda drop: drop["id"])
    if name == "elems":
        return [{k: v for k, v in drop["elems"].items() if k != "_message"} for drop in drops]
    return [drop["elems"]["_message"] for drop in drops]


def batches(nora, found):
    """The completions of a stream's batches, oldest first."""
    answer = nora.ask("GET", f"/drop?path={found['path']}/batches&limit=1000")
    if answer.status == 404:
        return []
    drops = sorted(answer.body, key=lambda drop: drop["id"])
    names = ("batch", "messages", "bytes", "slices")
    return [tuple(drop["elems"][name] for name in names) for drop in drops]


def b64(data):
    """Bytes as an entry has them."""
    return base64.b64encode(data).decode()


def payload_of(nora, payload_id, part=None):
    """A payload as bytes, read in parts."""
    found = b""
    while True:
        size = "" if part is None else f"&size={part}"
        answer = nora.ask("GET", f"/payload/{payload_id}?offset={len(found)}{size}")
        assert answer.status == 200, answer.errors
        data = base64.b64decode(answer.body["data"])
        found += data
        if not data or len(found) == answer.body["bytes"]:
            return found


# Streams


def test_a_stream_has_a_flow_at_a_path_made_of_its_names(nora):
    """What a path cannot have is written as bytes, so that no two streams share a flow."""
    paths = [
        stream(nora, name, group)["path"]
        for group, name in (
            ("house", "air"),
            ("House", "air"),
            ("_House", "a_b"),
            ("a/b", "ä .-_"),
            ("..", "."),
        )
    ]

    assert paths == [
        "/nora/streams/house/air",
        "/nora/streams/_:48ouse/air",
        "/nora/streams/_:5f:48ouse/a_b",
        "/nora/streams/a:2fb/_:c3:a4:20.-_",
        "/nora/streams/_:2e./_:2e",
    ]
    flows = {flow["path"]: flow for flow in nora.ask("GET", "/flow?limit=100").body}
    assert set(paths) <= set(flows)
    assert flows[paths[0]]["capacity"] == limits.flow_capacity_max


REFUSED = {
    "no name": ({"name": ""}, "name: "),
    "a name that makes too long a path": ({"name": "X" * 50}, "name: "),
    "another concatenation": ({"concatenation": "zip"}, "concatenation: "),
    "an unknown placeholder": ({"messageIdPattern": "{uuid}{x}"}, "messageIdPattern: "),
    "a lonely brace": ({"messageIdPattern": "{uuid}{"}, "messageIdPattern: "),
    "names that are not unique": ({"messageIdPattern": "{date}"}, "messageIdPattern: "),
    "numbers that begin anew with a file": (
        {"messageIdPattern": "{sequence}"},
        "messageIdPattern: ",
    ),
    "a batch for each message": ({"batchIdPattern": "{counter}"}, "batchIdPattern: "),
}


@pytest.mark.parametrize(("members", "said"), REFUSED.values(), ids=REFUSED)
def test_a_stream_that_cannot_be_is_refused(nora, members, said):
    """One sentence that names the member."""
    body = {"group": "house", "name": "air", **members}
    answer = nora.ask("POST", "/stream", body)

    assert (answer.status, len(answer.errors)) == (400, 1)
    assert answer.errors[0].startswith(said)


def test_names_are_given_once(nora):
    """A second stream of the same group and name is refused; both are for ever."""
    found = stream(nora)

    assert nora.ask("POST", "/stream", {"group": "house", "name": "air"}).status == 400
    assert nora.ask("PUT", f"/stream/{found['id']}", {"name": "other"}).status == 400


def test_there_is_one_default(nora):
    """Of the streams of a group, and of the groups."""
    first = stream(nora, "a", isDefault=True, isDefaultGroup=True)
    other = stream(nora, "x", "yard", isDefault=True)
    second = stream(nora, "b", isDefault=True)
    third = stream(nora, "y", "yard", isDefaultGroup=True)

    def shown(one):
        doc = nora.ask("GET", f"/stream/{one['id']}").body
        return doc.get("isDefault", False), doc.get("isDefaultGroup", False)

    assert [shown(each) for each in (first, other, second, third)] == [
        (False, False),
        (True, False),
        (True, False),
        (False, True),
    ]


# Where a message goes


def test_a_message_without_names_makes_the_default_stream(nora, probe):
    """`default` in `default`, with names of its own."""
    first = probe.send(elems={"temp": 21})
    probe.send(elems={"temp": 22})

    (found,) = nora.ask("GET", "/stream").body
    assert (found["group"], found["name"], found["path"]) == (
        "default",
        "default",
        "/nora/streams/default/default",
    )
    assert told(nora, found) == [{"temp": 21}, {"temp": 22}]
    assert first["status"] == 201
    assert len(first["messageId"]) == 36


def test_a_message_goes_where_it_names(nora, probe):
    """By group and stream, by group alone, by stream alone, by nothing."""
    stream(nora, "a", isDefault=True, isDefaultGroup=True, messageIdPattern="{uuid}")
    stream(nora, "b", messageIdPattern="{uuid}")
    stream(nora, "c", "yard", isDefault=True, messageIdPattern="{uuid}")
    for place in ({"group": "yard", "stream": "c"}, {"group": "yard"}, {"stream": "b"}, {}):
        assert probe.send(elems={}, **place)["status"] == 201

    counts = {
        each["name"]: len(told(nora, each)) for each in nora.ask("GET", "/stream?limit=9").body
    }
    assert counts == {"a": 1, "b": 1, "c": 2}


WRONG = {
    "no such stream": ({**AIR, "stream": "none", "elems": {}}, "message.stream: "),
    "no such group": ({"group": "none", "elems": {}}, "message.stream: "),
    "no id": ({**AIR, "elems": {}}, "message.messageId: "),
    "no payload": ({**AIR, "messageId": "1"}, "message: "),
    "two payloads": ({**AIR, "messageId": "1", "elems": {}, "data": ""}, "message: "),
    "no base64": ({**AIR, "messageId": "1", "data": "?"}, "message.data: "),
    "elements of ours": (
        {**AIR, "messageId": "1", "elems": {"_message": 1}},
        "message.elems._message: ",
    ),
    "a misspelt member": ({**AIR, "message_id": "1", "elems": {}}, "message.message_id: "),
    "an empty id": ({**AIR, "messageId": "", "elems": {}}, "message.messageId: "),
    "a long id": ({**AIR, "messageId": "x" * 251, "elems": {}}, "message.messageId: "),
    "a time of texts": ({**AIR, "messageId": "1", "at": "now", "elems": {}}, "message.at: "),
    "another end": ({**AIR, "complete": "all"}, "message.complete: "),
    "the end of no message": ({**AIR, "complete": "message"}, "message.messageId: "),
    "a chunk of no message": ({**AIR, "chunkId": "1", "data": ""}, "message.messageId: "),
    "a chunk of nothing": (
        {**AIR, "chunkId": "1", "messageId": "1", "complete": "message"},
        "message.chunkId: ",
    ),
    "properties of numbers": (
        {**AIR, "messageId": "1", "elems": {}, "properties": {"a": 1}},
        "message.properties: ",
    ),
    "half an upload": (
        {**AIR, "messageId": "1", "upload": {"pieces": 1}},
        "message.upload: ",
    ),
}


@pytest.mark.parametrize(("members", "said"), WRONG.values(), ids=WRONG)
def test_a_message_that_cannot_be_stored_is_refused_for_good(nora, probe, members, said):
    """400 and a sentence, so that the device puts it aside and goes on."""
    stream(nora)
    refused = probe.send(**members)

    assert (refused["status"], len(refused["errors"])) == (400, 1)
    assert refused["errors"][0].startswith(said)
    assert probe.send(**AIR, messageId="good", elems={})["status"] == 201


def test_messages_are_for_devices(nora, probe):
    """Neither the master token nor another Token may send one; it waits."""
    entry = {"message": {"elems": {}}, "origin": origin(1)}
    made = nora.ask("POST", "/token", {"paths": {"/nora": {"dropWrite": True}}}).body
    other = Visitor(nora.app, nora.clock, "nora", made["tokenString"])

    for who in (nora, other):
        assert [item(each)[0] for each in who.ask("POST", "/drop", [entry]).body] == [403]
    assert nora.ask("GET", "/stream").body == []


def test_a_message_beside_a_drop_is_neither(nora, probe):
    """And one without an origin is a drop that lacks its members."""
    entry = {**probe.entry(elems={}), "elems": {}}
    answer = probe.visitor.ask("POST", "/drop", [entry, {"message": {"elems": {}}}])

    assert [item(each)[0] for each in answer.body] == [400, 400]


# Names


def test_patterns_make_names(nora, probe):
    """From the device, the time that the sender says, and counters; the same when sent again."""
    pattern = "{device}.{stream}.{date}.{time}.{batch}.{counter:4}.{sequence}"
    found = stream(
        nora, messageIdPattern=pattern, batching=True, batchIdPattern="{date}T{hour}:{minute}"
    )
    at = 1_512_837_350_000
    answer = probe.send(**AIR, at=at, elems={})
    probe.send(**AIR, at=at + 1_000, elems={})

    assert answer["batchId"] == "2017-12-09T16:35"
    ids = [each["id"] for each in told(nora, found, "_message")]
    assert ids == [
        f"{probe.id}.air.2017-12-09.163550.2017-12-09T16:35.0001.1",
        f"{probe.id}.air.2017-12-09.163551.2017-12-09T16:35.0002.2",
    ]


def test_a_time_beyond_the_calendar_is_refused(nora, probe):
    """Where a pattern needs it."""
    stream(nora, messageIdPattern="{date}{uuid}")

    assert item(probe.send(**AIR, at=10**17, elems={})) == (400, "at:")
    assert probe.send(**AIR, at=10**12, elems={})["status"] == 201


def test_what_is_sent_again_under_the_same_number_is_stored_once(nora, probe):
    """The mark says so, whatever the names are."""
    found = stream(nora, messageIdPattern="{counter}")
    there = [probe.entry(1, **AIR, elems={"n": 1}), probe.entry(2, **AIR, elems={"n": 2})]
    there[1]["origin"].pop("after")
    first = probe.visitor.ask("POST", "/drop", there)
    again = probe.visitor.ask("POST", "/drop", there)

    assert first.status == 201
    assert [item(each) for each in again.body] == ["duplicate", "duplicate"]
    assert marks_of(again) == {"air": (2, message(2))}
    assert told(nora, found) == [{"n": 1}, {"n": 2}]


def test_a_message_of_the_same_name_is_stored_once(nora, probe):
    """Under another number too: the first stays, another content is counted."""
    found = stream(nora)
    probe.send(**AIR, messageId="1", elems={"n": 1})
    same = probe.send(**AIR, messageId="1", elems={"n": 1})
    other = probe.send(**AIR, messageId="1", elems={"n": 2})
    batch = probe.send(**AIR, messageId="1", batchId="b", elems={"n": 3})
    second = Sender(nora, "/nora/second").send(**AIR, messageId="1", elems={"n": 4})

    assert same == {"status": 200, "duplicate": True}
    assert other == {"status": 200, "duplicate": True, "conflict": True}
    assert batch["status"] == second["status"] == 201
    assert told(nora, found) == [{"n": 1}, {"n": 3}, {"n": 4}]
    assert nora.ask("GET", f"/stream/{found['id']}/open").body["conflicts"] == 1


def test_names_are_kept_for_the_newest_messages(nora, probe, monkeypatch):
    """An older one may come again."""
    monkeypatch.setattr(limits, "message_names_kept", 2)
    stream(nora)
    for name in "abc":
        probe.send(**AIR, messageId=name, elems={})

    assert probe.send(**AIR, messageId="b", elems={}) == {"status": 200, "duplicate": True}
    assert probe.send(**AIR, messageId="a", elems={})["status"] == 201


# Payloads


def test_a_json_object_becomes_elements(nora, probe):
    """As such, or as bytes that are one."""
    found = stream(nora, messageIdPattern="{uuid}")
    probe.send(**AIR, elems={"temp": 21.5})
    probe.send(**AIR, data=b64(b'{"temp": 22, "at": {"x": 1}}'))
    probe.send(**AIR, data=b64(b' {"temp": 23}'), contentType="application/json; charset=utf-8")

    assert told(nora, found) == [{"temp": 21.5}, {"temp": 22, "at": {"x": 1}}, {"temp": 23}]
    assert not any("payload" in each for each in told(nora, found, "_message"))


BYTES = {
    "bytes": (b"\x00\xff\n", "image/png"),
    "nothing": (b"", None),
    "json that is no object": (b"[1, 2]", "application/json"),
    "an object that says to be text": (b'{"a": 1}', "text/plain"),
    "an object that is none": (b'{"a": NaN}', None),
    "an object with an element of ours": (b'{"_message": 1}', None),
}


@pytest.mark.parametrize(("data", "content_type"), BYTES.values(), ids=BYTES)
def test_other_payloads_are_kept_byte_for_byte(nora, probe, data, content_type):
    """With their content type; read back whole or in parts."""
    found = stream(nora, messageIdPattern="{uuid}")
    more = {} if content_type is None else {"contentType": content_type}
    probe.send(**AIR, data=b64(data), **more)

    (said,) = told(nora, found, "_message")
    assert said["bytes"] == len(data)
    assert payload_of(nora, said["payload"]) == payload_of(nora, said["payload"], 2) == data
    answer = nora.ask("GET", f"/payload/{said['payload']}")
    assert answer.body.get("contentType") == said.get("contentType") == content_type


def test_a_message_says_what_it_is(nora, probe):
    """In the element `_message`; filters see it."""
    found = stream(nora)
    probe.send(
        **AIR,
        messageId="m",
        batchId="b",
        sliceId="s",
        at=5,
        contentType="text/plain",
        properties={"unit": "C"},
        data=b64(b"x"),
    )

    (said,) = told(nora, found, "_message")
    assert said.pop("payload")[0] == "y"
    assert said == {
        "device": probe.id,
        "id": "m",
        "batch": "b",
        "slice": "s",
        "at": 5,
        "contentType": "text/plain",
        "bytes": 1,
        "sequence": 1,
        "properties": {"unit": "C"},
    }
    query = f"/drop?path={found['path']}&filter=_message.properties.unit%20==%20'C'"
    assert len(nora.ask("GET", query).body) == 1


def test_a_payload_goes_with_its_drop(nora, probe):
    """Deleted with its last state; a flow that keeps nothing keeps no payload."""
    found = stream(nora, messageIdPattern="{uuid}")
    probe.send(**AIR, data=b64(b"one"))
    probe.send(**AIR, data=b64(b"two"))
    one, two = (each["payload"] for each in told(nora, found, "_message"))
    flow = nora.ask("GET", f"/stream/{found['id']}").body["flowId"]
    drops = sorted(drop["id"] for drop in nora.ask("GET", f"/drop/{flow}").body)

    nora.ask("DELETE", f"/drop/{flow}/{drops[0]}?forget=1")
    assert nora.ask("GET", f"/payload/{one}").status == 404
    nora.ask("DELETE", f"/drop/{flow}/{drops[1]}")
    assert payload_of(nora, two) == b"two"  # its last state is still held
    nora.ask("PUT", f"/flow/{flow}", {"history": 0})
    assert nora.ask("GET", f"/payload/{two}").status == 404

    nora.ask("PUT", f"/flow/{flow}", {"capacity": 0})
    assert probe.send(**AIR, data=b64(b"three"))["status"] == 201
    assert verify(nora.app.settings.data / FILE_NAME) == []


@pytest.mark.parametrize("history", [0, 1])
def test_payloads_go_when_a_full_flow_forgets_their_drops(nora, probe, history):
    """At once, or when their last state has left the history."""
    found = stream(nora, messageIdPattern="{uuid}")
    flow = nora.ask("GET", f"/stream/{found['id']}").body["flowId"]
    nora.ask("PUT", f"/flow/{flow}", {"capacity": 2, "history": history})
    kept = []
    for n in range(5):
        probe.send(**AIR, data=b64(b"%d" % n))
        kept.append(told(nora, found, "_message")[-1]["payload"])

    there = [nora.ask("GET", f"/payload/{each}").status for each in kept]
    assert there == [404] * (3 - history) + [200] * (2 + history)


def test_payloads_are_read_by_who_reads_the_drops(nora, bob, probe):
    """404 for everybody else."""
    found = stream(nora, messageIdPattern="{uuid}")
    probe.send(**AIR, data=b64(b"x"))
    (said,) = told(nora, found, "_message")
    flags = {found["path"]: {"dropRead": True}}
    string = nora.ask("POST", "/token", {"paths": flags}).body["tokenString"]
    reader = Visitor(nora.app, nora.clock, "nora", string)
    place = f"/payload/{said['payload']}"

    assert reader.ask("GET", place).status == 200
    assert probe.visitor.ask("GET", place).status == bob.ask("GET", place).status == 404
    assert nora.ask("GET", f"{place}?size={limits.payload_part_bytes_max + 1}").status == 400


# Uploads


def claim(data, pieces=1):
    """What an entry says of an upload."""
    digest = hashlib.sha256(data).hexdigest()
    return {"pieces": pieces, "bytes": len(data), "sha256": digest}


def test_an_upload_becomes_a_payload(nora, probe):
    """Once it is all there; until then the entry waits, and it is claimed once."""
    found = stream(nora, messageIdPattern="{uuid}")
    data = bytes(range(256)) * 40
    place = f"/upload/{BOX}/{message(1)}"
    entry = probe.entry(**AIR, upload=claim(data, 2))

    for n, part in ((1, data[6_000:]), (0, data[:6_000])):
        answer = probe.visitor.ask("POST", "/drop", [entry])
        assert [item(each) for each in answer.body] == [(409, "upload")]
        assert probe.visitor.ask("PUT", f"{place}/{n}", part).status == 200
    stored = probe.visitor.ask("POST", "/drop", [entry])
    again = probe.visitor.ask("POST", "/drop", [entry])

    assert [item(each) for each in (*stored.body, *again.body)] == ["id", "duplicate"]
    (said,) = told(nora, found, "_message")
    assert payload_of(nora, said["payload"], 999) == data
    assert probe.visitor.ask("GET", place).body["bytes"] == 0


def test_an_upload_with_another_digest_is_refused_for_good(nora, probe):
    """What is stored is what was meant."""
    stream(nora, messageIdPattern="{uuid}")
    probe.visitor.ask("PUT", f"/upload/{BOX}/{message(1)}/0", b"abd")

    assert item(probe.send(**AIR, upload=claim(b"abc"))) == (400, "message.upload.sha256:")


def test_an_upload_may_be_elements(nora, probe):
    """A JSON object that was too large for an entry."""
    found = stream(nora, messageIdPattern="{uuid}")
    data = b'{"text": "%s"}' % (b"x" * 5_000)
    probe.visitor.ask("PUT", f"/upload/{BOX}/{message(1)}/0", data)
    probe.send(**AIR, upload=claim(data))

    assert told(nora, found) == [{"text": "x" * 5_000}]


# Batches


def test_a_new_batch_completes_the_one_before(nora, probe):
    """One is open for each device; the completion is a drop beside the messages."""
    found = stream(nora, messageIdPattern="{uuid}", batching=True)
    other = Sender(nora, "/nora/second")
    for batch, slice_id in (("a", "x"), ("a", "y"), ("a", "x"), ("b", None)):
        more = {} if slice_id is None else {"sliceId": slice_id}
        probe.send(**AIR, batchId=batch, data=b64(b"12345"), **more)
    other.send(**AIR, batchId="a", elems={})

    assert batches(nora, found) == [("a", 3, 15, ["x", "y"])]
    open_now = nora.ask("GET", f"/stream/{found['id']}/open").body["batches"]
    assert sorted((each["batch"], each["messages"]) for each in open_now) == [("a", 1), ("b", 1)]


def test_a_batch_is_completed_when_it_is_said(nora, probe):
    """With its last message, by name, or the open one; nothing is completed twice."""
    found = stream(nora, messageIdPattern="{uuid}", batching=True)
    probe.send(**AIR, batchId="a", elems={}, complete="batch")
    assert probe.send(**AIR, batchId="a", complete="batch")["completed"] is False
    probe.send(**AIR, batchId="b", elems={})
    assert probe.send(**AIR, batchId="other", complete="batch")["completed"] is False
    assert probe.send(**AIR, batchId="b", complete="batch")["status"] == 201
    probe.send(**AIR, batchId="c", elems={})
    assert probe.send(**AIR, complete="batch")["batchId"] == "c"

    assert [each[:2] for each in batches(nora, found)] == [("a", 1), ("b", 1), ("c", 1)]


def test_a_batch_has_a_name(nora, probe):
    """Given, or made; 400 where neither is."""
    stream(nora, messageIdPattern="{uuid}", batching=True)

    assert item(probe.send(**AIR, elems={})) == (400, "message.batchId:")


@pytest.mark.parametrize(
    ("how", "joined"), [("plain", b'ab{"n":1}'), ("newline", b'a\nb\n{"n":1}')]
)
def test_a_batch_may_be_joined(nora, probe, how, joined):
    """All payloads of a batch as one, in their order."""
    found = stream(nora, messageIdPattern="{uuid}", batching=True, concatenation=how)
    for data in ({"data": b64(b"a")}, {"data": b64(b"b")}, {"elems": {"n": 1}}):
        probe.send(**AIR, batchId="x", **data)
    probe.send(**AIR, batchId="x", complete="batch")

    (drop,) = nora.ask("GET", f"/drop?path={found['path']}/batches").body
    assert payload_of(nora, drop["elems"]["payload"]) == joined


def test_a_joined_batch_is_bounded(nora, probe, monkeypatch):
    """What does not fit is left out, and said."""
    monkeypatch.setattr(limits, "upload_bytes_max", 10)
    found = stream(nora, messageIdPattern="{uuid}", batching=True, concatenation="plain")
    for data in (b"123456", b"123456", b"1"):
        probe.send(**AIR, batchId="x", data=b64(data))
    probe.send(**AIR, batchId="x", complete="batch")

    (drop,) = nora.ask("GET", f"/drop?path={found['path']}/batches").body
    assert payload_of(nora, drop["elems"]["payload"]) == b"123456"
    assert (drop["elems"]["truncated"], drop["elems"]["messages"]) == (True, 3)


@pytest.mark.parametrize(
    ("how", "parts", "joined"),
    [
        ("plain", (b"0123456789",), b"0123456789"),
        ("newline", (b"0123456789",), b"0123456789"),
        ("plain", (b"01234", b"56789"), b"0123456789"),
        ("newline", (b"01234", b"5678"), b"01234\n5678"),
    ],
)
def test_a_joined_batch_may_be_as_large_as_the_bound(nora, probe, monkeypatch, how, parts, joined):
    """To the last byte; there is a line end between two payloads alone."""
    monkeypatch.setattr(limits, "upload_bytes_max", 10)
    found = stream(nora, messageIdPattern="{uuid}", batching=True, concatenation=how)
    for data in parts:
        probe.send(**AIR, batchId="x", data=b64(data))
    probe.send(**AIR, batchId="x", complete="batch")

    (drop,) = nora.ask("GET", f"/drop?path={found['path']}/batches").body
    assert payload_of(nora, drop["elems"]["payload"]) == joined
    assert "truncated" not in drop["elems"]


# Chunks


def test_chunks_become_one_message(nora, probe):
    """In the order in which they came, each once, when the message is complete."""
    found = stream(nora)
    whole = {**AIR, "messageId": "film"}
    for n, data in ((1, b"one "), (2, b"two "), (2, b"two "), (3, b"three")):
        probe.send(**whole, chunkId=str(n), data=b64(data))
    (waiting,) = nora.ask("GET", f"/stream/{found['id']}/open").body["messages"]
    assert told(nora, found) == []
    done = probe.send(**whole, complete="message", contentType="text/plain")

    assert (waiting["message"], waiting["chunks"], waiting["bytes"]) == ("film", 3, 13)
    assert done["messageId"] == "film"
    (said,) = told(nora, found, "_message")
    assert payload_of(nora, said["payload"]) == b"one two three"
    assert probe.send(**whole, complete="message") == {"status": 200, "completed": False}
    assert nora.ask("GET", f"/stream/{found['id']}/open").body["messages"] == []


def test_the_last_chunk_may_complete_its_message(nora, probe):
    """Chunks may be uploads; a JSON object in chunks becomes elements; batches count it once."""
    found = stream(nora, batching=True, batchIdPattern="{date}")
    probe.send(**AIR, messageId="m", chunkId="1", data=b64(b'{"a"'))
    probe.visitor.ask("PUT", f"/upload/{BOX}/{message(2)}/0", b": 1}")
    last = probe.send(**AIR, messageId="m", chunkId="2", upload=claim(b": 1}"), complete="message")
    probe.send(**AIR, complete="batch")

    assert last["status"] == 201
    assert told(nora, found) == [{"a": 1}]
    assert [each[1:3] for each in batches(nora, found)] == [(1, 8)]


def test_messages_in_chunks_are_bounded_and_given_up(nora, probe, monkeypatch):
    """In number and bytes, 413; and after a week without a chunk."""
    monkeypatch.setattr(limits, "assemblies_max", 2)
    monkeypatch.setattr(limits, "upload_bytes_max", 10)
    found = stream(nora)

    def chunk(name, n, data):
        return probe.send(**AIR, messageId=name, chunkId=str(n), data=b64(data))

    assert chunk("a", 1, b"123456")["status"] == 201
    assert chunk("a", 2, b"123456")["status"] == 413
    assert chunk("b", 1, b"1")["status"] == 201
    assert chunk("c", 1, b"1")["status"] == 413
    nora.clock.now_ms += int(limits.upload_kept_s * 1_000) + 1
    assert chunk("a", 3, b"1")["status"] == 201
    (left,) = nora.ask("GET", f"/stream/{found['id']}/open").body["messages"]
    assert (left["message"], left["chunks"]) == ("a", 2)  # with what came before the week


def test_chunks_that_were_uploaded_are_moved(nora, probe):
    """In the order in which they came, one piece each, and nothing is left of the uploads."""
    found = stream(nora)
    chunks = [b"a" * 20_000, b"b" * 20_000, b"c" * 3]
    for number, data in enumerate(chunks, 1):
        probe.visitor.ask("PUT", f"/upload/{BOX}/{message(number)}/0", data)
        answer = probe.send(**AIR, messageId="m", chunkId=str(number), upload=claim(data))
        assert answer == {"status": 201, "messageId": "m", "chunks": number}
    (left,) = nora.ask("GET", f"/stream/{found['id']}/open").body["messages"]
    assert left["bytes"] == 40_003
    probe.send(**AIR, messageId="m", complete="message")

    (said,) = told(nora, found, "_message")
    assert payload_of(nora, said["payload"], part=7_000) == b"".join(chunks)
    scope = probe.id
    left = nora.app.store.read(lambda reader: reader.pieces.unfinished(scope))
    assert (left.count, left.bytes) == (0, 0)


def test_small_payloads_share_pieces(nora, probe):
    """A batch of thousands of readings is a few pieces, read and removed in a moment."""
    found = stream(nora, batching=True, concatenation="newline", messageIdPattern="{uuid}")
    lines = [b"%d" % n * 150 for n in range(300)]
    for line in lines:
        probe.send(**AIR, batchId="b", data=b64(line))
    probe.send(**AIR, complete="batch")
    (done,) = nora.ask("GET", f"/drop?path={found['path']}/batches").body
    payload_id = done["elems"]["payload"]

    def sizes(reader):
        return reader.pieces.sizes(reader.pieces.payload(payload_id).body)

    assert payload_of(nora, payload_id, part=10_000) == b"\n".join(lines)
    shared = nora.app.store.read(sizes)
    assert len(shared) < 10
    assert max(shared) <= 16_384


def test_messages_that_were_given_up_leave_room_for_others(nora, probe, monkeypatch):
    """As many as there may be were begun and never completed; the next is taken, and whole."""
    monkeypatch.setattr(limits, "assemblies_max", 2)
    found = stream(nora)
    for name in "ab":
        probe.send(**AIR, messageId=name, chunkId="1", data=b64(b"old"))
    nora.clock.now_ms += int(limits.upload_kept_s * 1_000) + 1
    probe.send(**AIR, messageId="c", chunkId="1", data=b64(b"new "))
    last = probe.send(**AIR, messageId="c", chunkId="2", data=b64(b"one"), complete="message")

    assert last["status"] == 201
    (said,) = told(nora, found, "_message")
    assert payload_of(nora, said["payload"]) == b"new one"
    assert nora.ask("GET", f"/stream/{found['id']}/open").body["messages"] == []


def test_a_message_that_the_flow_refuses_is_refused_again(nora, probe):
    """A whole one leaves nothing; chunks stay, or its repetition would find nothing and go."""
    found = stream(nora, messageIdPattern="{uuid}")
    flow = nora.ask("GET", f"/stream/{found['id']}").body["flowId"]
    nora.ask("PUT", f"/flow/{flow}", {"filter": "EXISTS temp"})

    assert probe.send(**AIR, elems={"n": 1})["status"] == 400
    assert probe.send(**AIR, data=b64(b"x"))["status"] == 400
    probe.send(**AIR, messageId="m", chunkId="1", data=b64(b"x"))
    end = probe.entry(**AIR, messageId="m", complete="message")
    last = probe.entry(**AIR, messageId="m", chunkId="2", data=b64(b"y"), complete="message")
    for entry in (end, end, last, last):
        assert item(probe.visitor.ask("POST", "/drop", [entry]).body[0])[0] == 400
    assert probe.send(**AIR, elems={"temp": 1})["status"] == 201
    nora.ask("PUT", f"/flow/{flow}", {"filter": None})
    assert probe.send(**AIR, messageId="m", complete="message")["status"] == 201
    said = told(nora, found, "_message")[-1]
    assert payload_of(nora, said["payload"]) == b"xy"
    assert nora.ask("GET", f"/stream/{found['id']}/open").body["messages"] == []


@pytest.mark.parametrize("pattern", ["{counter}", "{box}-{sequence}"])
def test_a_name_that_is_made_is_never_that_of_another_message(nora, probe, pattern):
    """It was given by the device, belongs to chunks, or comes from another line of the box."""
    found = stream(nora, messageIdPattern=pattern)
    probe.send(**AIR, messageId="2", elems={"n": 0})
    entries = []
    for line in "abc":
        entry = probe.entry(1, **AIR, elems={"n": 1})
        entry["origin"]["stream"] = line
        entries.append(entry)
    answer = probe.visitor.ask("POST", "/drop", entries)

    assert [each["status"] for each in answer.body] == [201, 201, 201]
    assert told(nora, found) == [{"n": 0}, {"n": 1}, {"n": 1}, {"n": 1}]
    assert len({each["id"] for each in told(nora, found, "_message")}) == 4
    assert nora.ask("GET", f"/stream/{found['id']}/open").body["conflicts"] == 0


def test_a_message_that_is_there_already_completes_its_batch(nora, probe):
    """What it says of the batch holds, whoever was the first to bring the message."""
    found = stream(nora, batching=True)
    probe.send(**AIR, batchId="b", messageId="1", elems={"n": 1})
    again = probe.send(**AIR, batchId="b", messageId="1", elems={"n": 1}, complete="batch")
    third = probe.send(**AIR, batchId="b", messageId="1", elems={"n": 1}, complete="batch")

    assert again == third == {"status": 200, "duplicate": True}
    assert [each[:2] for each in batches(nora, found)] == [("b", 1)]
    assert nora.ask("GET", f"/stream/{found['id']}/open").body["batches"] == []


@pytest.mark.parametrize("how", ["again", "other line", "skip"])
def test_an_upload_of_what_is_settled_already_is_not_kept(nora, probe, how):
    """Or the bounds of unfinished uploads would refuse the next ones for a week."""
    stream(nora)
    place = f"/upload/{BOX}/{message(1)}"
    entry = probe.entry(**AIR, messageId="1", upload=claim(b"abc"))
    probe.visitor.ask("PUT", f"{place}/0", b"abc")
    if how != "skip":
        assert probe.visitor.ask("POST", "/drop", [entry]).status == 201
        probe.visitor.ask("PUT", f"{place}/0", b"abc")
    if how == "other line":
        entry["origin"]["stream"] = "other"
    if how == "skip":
        entry = {"origin": {**entry["origin"], "skip": "refused"}}
    assert probe.visitor.ask("POST", "/drop", [entry]).body[0]["status"] == 200

    assert probe.visitor.ask("GET", place).body == {"pieces": [], "bytes": 0}


# What goes


@pytest.mark.parametrize("gone", ["device", "stream"])
def test_what_is_open_goes_with_its_device_or_stream(nora, probe, gone):
    """The flow with what was stored stays."""
    found = stream(nora, messageIdPattern="{uuid}", batching=True, concatenation="plain")
    probe.send(**AIR, batchId="b", data=b64(b"x"))
    probe.send(**AIR, batchId="b", messageId="m", chunkId="1", data=b64(b"x"))
    target = probe.id if gone == "device" else found["id"]
    assert nora.ask("DELETE", f"/{gone}/{target}").status == 200

    assert verify(nora.app.settings.data / FILE_NAME) == []
    (said,) = told(nora, found, "_message")
    assert payload_of(nora, said["payload"]) == b"x"


def test_a_stream_whose_flow_was_deleted_gets_a_new_one(nora, probe):
    """Nothing that was accepted is refused for good by that."""
    found = stream(nora, messageIdPattern="{uuid}")
    flow = nora.ask("GET", f"/stream/{found['id']}").body["flowId"]
    probe.send(**AIR, data=b64(b"x"))
    nora.ask("DELETE", f"/flow/{flow}")
    probe.send(**AIR, elems={"n": 2})

    assert told(nora, found) == [{"n": 2}]


def test_many_messages_of_many_streams_in_one_request(nora, probe):
    """Each in its stream, in order; one commit."""
    for name in "abc":
        stream(nora, name, messageIdPattern="{counter}")
    order = list(itertools.islice(itertools.cycle("abc"), 30))
    there = [
        probe.entry(at + 1, group="house", stream=name, elems={"n": at})
        for at, name in enumerate(order)
    ]
    for each in there[1:]:
        each["origin"].pop("after")
    answer = probe.visitor.ask("POST", "/drop", there)

    assert answer.status == 201
    for name in "abc":
        wanted = [{"n": at} for at, each in enumerate(order) if each == name]
        assert told(nora, {"path": f"/nora/streams/house/{name}"}) == wanted
