"""What callers see of stored objects, and of the objects that those refer to."""

import pytest

from flowkit.server.auth import Credential, Grant
from flowkit.server.showing import drop_told, only_members, references, shown_identity
from flowkit.server.store.base import Account, StoredDrop
from tests.server.visitor import Visitor

OWN = Account("nora", "i" + "a" * 24)
WHOLE = {"id": OWN.identity_id, "name": "nora", "icon": "n", "email": "n@x.y", "shares": {}}


def ids(answer):
    """The references of an answer: id to the names of what is shown."""
    return answer.head["references"]


def id_of(who):
    """The identity of an account."""
    return who.ask("GET", "/identity").body[0]["id"]


@pytest.mark.parametrize(
    ("who", "names"),
    [
        (Credential(OWN), set(WHOLE)),
        (Credential(OWN, "token"), {"id", "name", "icon"}),
        (Credential(Account("bob", "i" + "b" * 24)), {"id", "name", "icon"}),
    ],
)
def test_an_identity_is_whole_to_its_owner_alone(who, names):
    """Its own Tokens see neither its address nor what is shared with it (8.2)."""
    assert set(shown_identity(WHOLE, who)) == names


def test_only_keeps_what_it_names_and_the_id():
    """In the order of the document."""
    doc = {"id": "f1", "path": "/a/b", "capacity": 1}

    assert only_members(doc, ["capacity"], "flow") == {"id": "f1", "capacity": 1}
    assert only_members(doc, None, "flow") is doc


@pytest.mark.parametrize(
    ("flags", "said", "shown"),
    [
        (["dropWrite"], ["location"], {"id", "path", "version", "location"}),
        (["dropWrite"], ["elems"], {"id", "path", "version", "elems"}),
        (["dropWrite", "dropRead"], [], {"id", "path", "version", "location", "elems", "fhash"}),
    ],
)
def test_who_cannot_read_a_drop_is_told_what_it_said(flags, said, shown):
    """Types go with the elements."""
    doc = {"id": "d1", "path": "/nora/x", "version": 1, "location": {}, "elems": {}, "fhash": "a"}
    who = Credential(OWN, "token", (Grant("/nora/x", frozenset(flags)),))

    told = drop_told(StoredDrop(doc, {"a": "date"}), who, said)

    assert set(told.doc) == shown
    assert bool(told.types) is ("elems" in shown)


def test_the_creator_and_the_flow_of_a_drop(nora, bob):
    """Others see of an identity what may be seen of it, and flows that they may read."""
    flow = nora.flow("/nora/x", public=True)
    nora.drop(flow, a=1)
    nora_id = id_of(nora)

    seen = ids(bob.ask("GET", f"/drop/{flow['id']}?refs=1"))

    assert seen == {nora_id: {"id": nora_id, "name": "nora"}, flow["id"]: flow}


def test_members_receivers_and_issuers(nora, bob):
    """Of Groups and Shares, each as the caller may see it."""
    nora_id, bob_id = id_of(nora), id_of(bob)
    group = nora.ask("POST", "/group", {"memberIds": [bob_id]}).body
    paths = {"/nora/x": {"read": True}}
    share = nora.ask("POST", "/share", {"issuedTo": group["id"], "paths": paths}).body

    of_group = ids(nora.ask("GET", f"/group/{group['id']}?refs=1"))
    of_share = ids(bob.ask("GET", f"/share/{share['id']}?refs=1"))

    assert set(of_group) == {nora_id, bob_id}
    assert of_share == {group["id"]: group, nora_id: {"id": nora_id, "name": "nora"}}


def test_a_reference_that_may_not_be_seen_is_left_out(nora, bob):
    """Another's group, a deleted receiver, others' identities for a Token."""
    bob_id = id_of(bob)
    group = bob.ask("POST", "/group", {"memberIds": []}).body
    paths = {"/nora/x": {"read": True}}
    share = nora.ask("POST", "/share", {"issuedTo": group["id"], "paths": paths}).body
    assert set(ids(nora.ask("GET", f"/share/{share['id']}?refs=1"))) == {id_of(nora)}

    write = {"/nora/x": {"read": True, "write": True}}
    nora.ask("POST", "/share", {"issuedTo": bob_id, "paths": write})
    flow = bob.flow("/nora/x/bobs")
    token = nora.ask("POST", "/token", {"paths": {"/nora/x": {}}}).body
    device = Visitor(nora.app, nora.clock, "nora", token["tokenString"])
    assert ids(device.ask("GET", f"/flow/{flow['id']}?refs=1")) == {}
    assert set(ids(nora.ask("GET", f"/flow/{flow['id']}?refs=1"))) == {bob_id}


def test_a_token_and_flows_by_their_paths(nora, bob):
    """A Device's Token comes without its string; a Track's Flows only where they can be read."""
    mine, hidden = nora.flow("/nora/x"), bob.flow("/bob/x")
    token = nora.ask("POST", "/token", {"paths": {"/nora/x": {}}, "duration": 1000}).body
    docs = [
        {"id": "v1", "tokenId": token["id"]},
        {"id": "t1", "source": "/nora/x", "destination": ["/bob/x", "/nora/none"]},
        {"id": "t2", "source": "/bob/x", "destination": "/nora/x"},
        {"id": "x1", "tokenId": "no id", "creatorId": "i" + "0" * 24},
    ]

    def job(reader, account="nora", at_ms=0):
        who = Credential(reader.account(account), at_ms=at_ms)
        return references(reader, who, docs)

    store, now = nora.app.store, nora.clock.now_ms
    shown = store.read(lambda reader: job(reader, at_ms=now))

    assert set(shown) == {mine["id"], token["id"]}
    assert "tokenString" not in shown[token["id"]]
    assert set(store.read(lambda reader: job(reader, at_ms=now + 1000))) == {mine["id"]}
    assert set(store.read(lambda reader: job(reader, "bob"))) == {hidden["id"]}
