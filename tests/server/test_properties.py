"""The documents of a device: versions, generation, the drops that tell of them, entries."""

from __future__ import annotations

import json

import pytest

from flowkit import limits
from flowkit.protocol.envelope import Request
from flowkit.server.store.backup import backup, restore
from tests.server.visitor import Visitor, visiting

PATH = "/nora/house/bench-3"
BOX = "0f" * 16


@pytest.fixture
def device(nora):
    """A device."""
    made = nora.ask("POST", "/device", {"path": PATH, "deviceId": "Bench-3"})
    assert made.status == 201, made.errors
    return made.body


@pytest.fixture
def itself(nora, device):
    """The device, with its Token."""
    return token_of(nora, device)


def token_of(nora, device):
    """A device, with its Token."""
    token_id = nora.ask("GET", f"/device/{device['id']}").body["tokenId"]
    secret = nora.ask("GET", f"/token/{token_id}").body["tokenString"]
    return Visitor(nora.app, nora.clock, "nora", secret)


def told(nora, path=PATH):
    """What the flow of the documents holds: kind to elements."""
    found = nora.ask("GET", f"/drop?path={path}/properties")
    assert found.status == 200, found.errors
    return {drop["fhash"]: drop["elems"] for drop in found.body}


def desire(who, device, **body):
    """A change of what is desired."""
    return who.ask("POST", f"/device/{device['id']}/desired", body)


def report(who, device, **body):
    """A change of what was reported."""
    return who.ask("POST", f"/device/{device['id']}/reported", body)


def entry(at, change):
    """An entry of an array create."""
    origin = {"box": BOX, "stream": "_reported", "sequence": at, "message": f"{at:016x}"}
    if at > 1:
        origin["after"] = f"{at - 1:016x}"
    return {"reported": change, "origin": origin}


def test_a_device_that_was_told_nothing_has_empty_documents(nora, device):
    """At version 0, and the same whichever way it is asked for."""
    asked = nora.ask("GET", f"/device/{device['id']}/properties").body
    shown = nora.ask("GET", f"/device/{device['id']}").body

    assert asked["desired"] == asked["reported"] == {"values": {}, "version": 0}
    assert (shown["desired"], shown["reported"], shown["tags"]) == ({}, {}, {})
    assert asked["generation"] == shown["generation"] == device["generation"]


def test_every_change_has_the_next_version_and_is_told(nora, device, itself):
    """By a patch, as a whole, by a PUT; in the flow, which the device reads and nobody writes."""
    first = desire(nora, device, values={"a": 1, "b": {"c": 2}}).body
    second = desire(nora, device, patch={"a": None, "b": {"d": 3}}).body
    put = nora.ask("PUT", f"/device/{device['id']}", {"desired": {"e": 4}}).body

    assert (first["version"], second["version"], put["desiredVersion"]) == (1, 2, 3)
    assert second["values"] == {"b": {"c": 2, "d": 3}}
    drop = {"kind": "desired", "values": {"e": 4}, "version": 3}
    assert told(itself) == {"desired": {**drop, "generation": device["generation"]}}
    body = {"path": f"{PATH}/properties", "elems": {"kind": "desired"}}
    assert itself.ask("POST", "/drop", body).status == 403


@pytest.mark.parametrize(("value", "version"), [(1, 1), (True, 2), (1.5, 2), ("1", 2)])
def test_what_is_so_already_is_no_change(nora, device, value, version):
    """No version, no drop; but true is not 1."""
    desire(nora, device, values={"a": [{"b": 1}]})
    changed = desire(nora, device, values={"a": [{"b": value}]}).body

    assert changed["version"] == version
    assert changed["values"] == {"a": [{"b": value}]}
    assert told(nora)["desired"]["version"] == version


def test_a_change_over_a_version_is_refused_when_another_came_first(nora, device):
    """409, and nothing is changed; a version that is none is 400."""
    desire(nora, device, values={"a": 1}, version=0)

    assert desire(nora, device, values={"a": 2}, version=0).status == 409
    assert desire(nora, device, patch={"a": 2}, version=1).status == 200
    assert desire(nora, device, values={"a": 3}, version="1").status == 400
    assert desire(nora, device, values={"a": 3}, version=True).status == 400


def test_a_device_reports(nora, device, itself):
    """It is seen by that, and found by what it said."""
    nora.clock.now_ms += 5_000
    assert report(itself, device, values={"firmware": "1.9", "up": True}).body["version"] == 1
    assert report(itself, device, patch={"up": None}).body["version"] == 2
    (found,) = nora.ask("GET", "/device?filter=reported.firmware%20<%20'2.0'").body

    assert (found["id"], found["reported"]) == (device["id"], {"firmware": "1.9"})
    assert (found["status"], found["timeSinceLastSeen"]) == ("OK", 0)
    assert told(nora)["reported"]["version"] == 2
    assert nora.ask("GET", "/device?filter=reported.firmware%20>%20'2.0'").body == []


def test_only_the_device_reports(nora, device):
    """Neither its owner nor another device."""
    other = nora.ask("POST", "/device", {"path": "/nora/other"}).body

    assert report(nora, device, values={}).status == 403
    assert report(token_of(nora, other), device, values={}).status == 404
    assert nora.ask("PUT", f"/device/{device['id']}", {"reported": {"a": 1}}).notes != []
    assert nora.ask("GET", f"/device/{device['id']}").body["reported"] == {}


def test_a_device_does_not_change_what_is_desired_of_it(device, itself):
    """Nor its tags, whichever way."""
    place = f"/device/{device['id']}"

    assert desire(itself, device, values={"a": 1}).status == 403
    assert itself.ask("PUT", place, {"desired": {"a": 1}}).status == 403
    assert itself.ask("PUT", place, {"tags": {"a": 1}}).status == 403
    assert itself.ask("PUT", place, {"desired": {}, "status": "OK"}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"values": {}, "patch": {}},
        {"values": None},
        {"values": {"a.b": 1}},
        {"values": {"a": None}},
        {"patch": {"$a": 1}},
        {"values": {"a": "x" * (limits.property_text_bytes_max + 1)}},
    ],
)
def test_a_change_that_breaks_a_rule_is_refused(nora, device, itself, body):
    """Desired and reported alike, and as an entry: for good."""
    assert desire(nora, device, **body).status == 400
    assert report(itself, device, **body).status == 400
    answer = itself.ask("POST", "/drop", [entry(1, body)])
    assert answer.body[0]["status"] == 400
    assert answer.head["marks"][0]["sequence"] == 0


def test_a_patch_cannot_make_a_document_too_large(nora, device):
    """It is the result that counts."""
    part = {f"k{n}": "x" * 4_000 for n in range(8)}
    assert desire(nora, device, values=part).status == 200

    refused = desire(nora, device, patch={"more": "x" * 1_000})
    assert refused.status == 400
    assert str(limits.properties_bytes_max) in refused.errors[0]


def test_tags_are_the_owners(nora, device):
    """Flat, found by, and never told to the device's flow."""
    place = f"/device/{device['id']}"
    assert nora.ask("PUT", place, {"tags": {"site": "oslo"}}).body["tags"] == {"site": "oslo"}
    assert nora.ask("PUT", place, {"tags": {"site": {}}}).status == 400
    assert len(nora.ask("GET", "/device?filter=tags.site%20==%20'oslo'").body) == 1
    assert nora.ask("PUT", place, {"tags": None}).body["tags"] == {}
    assert told(nora) == {}


def test_a_report_can_be_an_entry_of_an_array(nora, device, itself):
    """In its turn among the drops of other lines, once however often it is sent."""
    array = [entry(1, {"values": {"a": 1}}), entry(2, {"patch": {"b": 2}})]
    del array[1]["origin"]["after"]
    first = itself.ask("POST", "/drop", array)
    again = itself.ask("POST", "/drop", array)

    assert first.status == 201
    assert [one["version"] for one in first.body] == [1, 2]
    assert {one["generation"] for one in first.body} == {device["generation"]}
    assert [one.get("duplicate") for one in again.body] == [True, True]
    assert nora.ask("GET", f"/device/{device['id']}").body["reported"] == {"a": 1, "b": 2}
    mark = {"box": BOX, "stream": "_reported", "sequence": 2, "message": f"{2:016x}"}
    assert first.head["marks"] == [mark]


def test_a_report_of_no_device_is_refused(nora, device):
    """403: the line waits for the right credential; nothing is reported."""
    answer = nora.ask("POST", "/drop", [entry(1, {"values": {"a": 1}})])

    assert answer.body[0]["status"] == 403
    assert nora.ask("GET", f"/device/{device['id']}").body["reported"] == {}


def test_a_report_stands_alone_in_its_entry(itself):
    """Beside another member it is refused, not half followed."""
    both = {**entry(1, {"values": {}}), "path": f"{PATH}/default"}

    assert itself.ask("POST", "/drop", [both]).body[0]["status"] == 400


def test_a_report_in_an_entry_expects_no_version(itself):
    """It would be refused for ever and hold up the line: it is refused for good instead."""
    answer = itself.ask("POST", "/drop", [entry(1, {"values": {}, "version": 7})])

    assert answer.body[0]["status"] == 400
    assert "version" in answer.body[0]["errors"][0]


def test_changes_are_pushed(nora, device, itself):
    """To a session of the device, by long polls, in the commit that made them."""
    headers = {"x-auth-account": "nora", "x-auth-token": itself.token}
    made = itself.app.handle(Request("POST", ("session",), {}, headers))
    place = ("session", json.loads(made.body)["body"]["id"], "polling")
    ask = {"type": "subscribe", "object": "drop", "path": f"{PATH}/properties", "msgId": 1}
    assert itself.app.handle(Request("POST", place, body=json.dumps(ask).encode())).status == 200
    seen = []
    desire(nora, device, values={"a": 1})
    while not any(one["type"] == "message" for one in seen if "type" in one):
        seen += json.loads(itself.app.handle(Request("GET", place)).body)

    (pushed,) = [one for one in seen if one.get("type") == "message"]
    assert pushed["value"]["elems"]["values"] == {"a": 1}


def test_an_older_device_gets_what_it_lacks(nora, device):
    """Its flow, and the right of its Token to read it, with the first change."""
    flow = nora.ask("GET", f"/flow?filter=path%20==%20'{PATH}/properties'").body[0]
    token_id = device["tokenId"]

    def older(writer):
        token = writer.object("token", token_id)
        paths = {name: flags for name, flags in token.doc["paths"].items() if flow["path"] != name}
        writer.update_object(token, {"paths": paths}, editor=None)
        writer.delete_flow(writer.flow(flow["id"]))

    nora.app.store.write(older)
    itself = token_of(nora, device)
    assert itself.ask("GET", f"/drop?path={PATH}/properties").status == 404
    desire(nora, device, values={"a": 1})

    assert told(itself)["desired"]["values"] == {"a": 1}
    assert itself.ask("POST", "/drop", {"path": f"{PATH}/properties", "elems": {}}).status == 403


def test_a_flow_whose_filter_refuses_does_not_hold_up_a_change(nora, device):
    """Its owner wants it so."""
    flow = nora.ask("GET", f"/flow?filter=path%20==%20'{PATH}/properties'").body[0]
    nora.ask("PUT", f"/flow/{flow['id']}", {"filter": "kind == 'reported'"})

    assert desire(nora, device, values={"a": 1}).body["version"] == 1
    assert told(nora) == {}


def test_a_device_is_made_with_what_is_desired_of_it(nora):
    """And with its tags; what breaks a rule leaves no device."""
    body = {"path": "/nora/other", "desired": {"interval": 60}, "tags": {"site": "oslo"}}
    made = nora.ask("POST", "/device", body)
    refused = nora.ask("POST", "/device", {"path": "/nora/third", "desired": {"a.b": 1}})

    assert (made.body["desired"], made.body["desiredVersion"]) == ({"interval": 60}, 1)
    assert told(nora, "/nora/other")["desired"]["version"] == 1
    assert refused.status == 400
    assert len(nora.ask("GET", "/device").body) == 1


def test_a_restored_server_is_another_generation(tmp_path):
    """Versions may have gone back; the documents are those of the backup."""
    with visiting(tmp_path / "data") as (nora, _):
        device = nora.ask("POST", "/device", {"path": PATH}).body
        desire(nora, device, values={"a": 1})
        backup(tmp_path / "data", tmp_path / "copy")
        before = desire(nora, device, values={"a": 2}).body
    with visiting(tmp_path / "data") as (again, _):
        again.token = nora.token
        kept = again.ask("GET", f"/device/{device['id']}/properties").body
    restore(tmp_path / "copy", tmp_path / "new", now_ms=0)
    with visiting(tmp_path / "new") as (restored, _):
        restored.token = nora.token
        after = restored.ask("GET", f"/device/{device['id']}/properties").body

    assert kept["generation"] == before["generation"]
    assert after["generation"] != before["generation"]
    assert after["desired"] == {"values": {"a": 1}, "version": 1}


def test_an_inbound_message_is_a_drop_in_commands(nora, device, itself):
    """As ever: the owner writes it, the device reads it and goes on from its position."""
    nora.ask("POST", "/drop", {"path": f"{PATH}/commands", "elems": {"do": "restart"}})
    (found,) = itself.ask("GET", f"/drop?path={PATH}/commands").body

    assert found["elems"] == {"do": "restart"}


# Large devices


def reports(itself, first, last, **members):
    """Entries of one line, each with a change of its own."""
    return [entry(at, {"patch": {"n": at, **members}}) for at in range(first, last + 1)]


def test_a_request_reads_its_device_once_however_many_entries_it_has(tmp_path):
    """What all of them would read together must not be what refuses the last of them for good."""
    with visiting(tmp_path / "data", answer_bytes_max=100_000) as (nora, _bob):
        made = nora.ask("POST", "/device", {"path": PATH}).body
        itself = token_of(nora, made)
        itself.ask("PUT", f"/device/{made['id']}", {"deviceSummary": {"log": "x" * 50_000}})
        answer = itself.ask("POST", "/drop", reports(itself, 1, 10))

        assert answer.status == 201, answer.body
        assert told(nora)["reported"]["values"] == {"n": 10}
        assert told(nora)["reported"]["version"] == 10


def test_many_changes_of_a_large_document_take_several_requests(nora, device, itself, monkeypatch):
    """Each writes the document whole; the rest of the line is expected next, nothing is refused."""
    monkeypatch.setattr(limits, "reported_bytes_per_request_max", 3_000)
    entries = reports(itself, 1, 7, text="x" * 990)
    marks = []
    while entries:
        answer = itself.ask("POST", "/drop", entries)
        (mark,) = answer.head["marks"]
        for refused in answer.body[3:]:
            assert refused["status"] == 409
            assert refused["errors"][0].startswith("expected ")
        entries = reports(itself, mark["sequence"] + 1, 7, text="x" * 990)
        marks.append(mark["sequence"])

    assert marks == [3, 6, 7]
    assert told(nora)["reported"]["version"] == 7


def test_what_another_account_keeps_does_not_make_a_find_too_large(tmp_path):
    """Devices are read of the accounts in which the caller has rights."""
    with visiting(tmp_path / "data", answer_bytes_max=100_000) as (nora, bob):
        for n in range(4):
            made = nora.ask("POST", "/device", {"path": f"/nora/d{n}"}).body
            large = {"deviceSummary": {"log": "x" * 40_000}}
            assert nora.ask("PUT", f"/device/{made['id']}", large).status == 200
        own = bob.ask("POST", "/device", {"path": "/bob/d"}).body

        assert [each["id"] for each in bob.ask("GET", "/device").body] == [own["id"]]
        assert nora.ask("GET", "/device").status == 400
