"""Shares: rights for the master token of another account."""

import pytest

from flowkit import limits
from flowkit.server.auth import ensure_account
from tests.server.visitor import Visitor

READ = {"/nora/x": {"read": True, "dropRead": True}}


def id_of(who):
    """The identity of an account."""
    return who.ask("GET", "/identity").body[0]["id"]


@pytest.fixture
def carl(nora):
    """A third account."""
    return Visitor(nora.app, nora.clock, "carl", ensure_account(nora.app.store, "carl")[1])


def share(nora, issued_to, paths=READ, **members):
    """A new Share of nora's."""
    made = nora.ask("POST", "/share", {"issuedTo": issued_to, "paths": paths, **members})
    assert made.status == 201, made.errors
    return made.body


def test_a_share_lets_another_account_in(nora, bob):
    """With its own token and its own name in the address, as far as the flags go."""
    flow = nora.flow("/nora/x/y")
    nora.drop(flow, a=1)
    address = f"/drop/{flow['id']}"
    assert bob.ask("GET", address).status == 404

    made = share(nora, id_of(bob))

    assert made["issuedBy"] == id_of(nora)
    assert bob.ask("GET", address).body[0]["elems"] == {"a": 1}
    assert [each["path"] for each in bob.ask("GET", "/flow").body] == ["/nora/x/y"]
    refused = bob.ask("POST", address, {"elems": {}})
    assert refused.status == 403
    assert refused.errors == ["path: the account bob has no right dropWrite at /nora/x/y"]
    assert nora.ask("DELETE", f"/share/{made['id']}").status == 200
    assert bob.ask("GET", address).status == 404


def test_a_share_is_seen_by_both_sides_and_ended_by_its_issuer(nora, bob, carl):
    """The receiver sees it like the issuer does, and cannot remove it."""
    made = share(nora, id_of(bob), description="see")

    assert bob.ask("GET", "/share").body == nora.ask("GET", "/share").body == [made]
    assert bob.ask("GET", f"/share/{made['id']}").body == made
    assert bob.ask("DELETE", f"/share/{made['id']}").status == 403
    assert carl.ask("GET", f"/share/{made['id']}").status == 404
    assert carl.ask("DELETE", f"/share/{made['id']}").status == 404
    assert nora.ask("PUT", f"/share/{made['id']}", {}).status == 405


def test_a_receiver_finds_its_shares_in_its_identity(nora, bob, carl):
    """Its own, those of its groups, and only live ones."""
    group = carl.ask("POST", "/group", {"memberIds": [id_of(bob)]}).body
    direct = share(nora, id_of(bob), duration=1000)
    by_group = share(nora, group["id"])

    own = bob.ask("GET", "/identity").body[0]
    assert own["groupIds"] == [group["id"]]
    assert own["shares"] == {one["id"]: {"paths": READ} for one in (direct, by_group)}
    nora.clock.now_ms += 1000
    assert list(bob.ask("GET", "/identity").body[0]["shares"]) == [by_group["id"]]
    assert "shares" not in nora.ask("GET", f"/identity/{id_of(bob)}").body


def test_a_share_to_a_group_reaches_who_is_in_it_now(nora, bob, carl):
    """Coming and leaving count with the next request; so does the end of the group."""
    flow = nora.flow("/nora/x")
    group = nora.ask("POST", "/group", {"memberIds": [id_of(carl)]}).body
    share(nora, group["id"])
    address = f"/flow/{flow['id']}"

    assert (carl.ask("GET", address).status, bob.ask("GET", address).status) == (200, 404)
    nora.ask("PUT", f"/group/{group['id']}", {"memberIds": [id_of(bob)]})
    assert (carl.ask("GET", address).status, bob.ask("GET", address).status) == (404, 200)
    nora.ask("DELETE", f"/group/{group['id']}")
    assert bob.ask("GET", address).status == 404


def test_a_flow_can_be_made_in_another_namespace(nora, bob):
    """With ``write``; its creator has no right there beyond the Share."""
    made = share(nora, id_of(bob), {"/nora/x": {"read": True, "write": True}})

    flow = bob.flow("/nora/x/bobs")

    assert flow["creatorId"] == id_of(bob)
    assert nora.ask("GET", f"/flow/{flow['id']}").status == 200
    assert bob.ask("PUT", f"/flow/{flow['id']}", {"capacity": 5}).body["capacity"] == 5
    assert bob.ask("POST", "/flow", {"path": "/nora/xy"}).status == 403
    nora.ask("DELETE", f"/share/{made['id']}")
    assert bob.ask("GET", f"/flow/{flow['id']}").status == 404


REFUSED = [
    ({"paths": READ}, 400, "issuedTo: is required"),
    ({"issuedTo": "nobody", "paths": READ}, 400, "issuedTo: must be an id"),
    ({"issuedTo": "i" + "0" * 24, "paths": READ}, 400, "issuedTo: there is no Identity and no"),
    ({"issuedTo": "g" + "0" * 24, "paths": READ}, 400, "issuedTo: there is no Identity and no"),
    ({"issuedTo": "f" + "0" * 24, "paths": READ}, 400, "issuedTo: there is no Identity and no"),
    ({"issuedTo": "NORA", "paths": READ}, 400, "issuedTo: is the account itself"),
    ({"issuedTo": "BOB", "paths": {}}, 400, "paths: must have at least one path"),
    ({"issuedTo": "BOB", "paths": {"/nora/x": {"own": True}}}, 400, "paths./nora/x.own: is no"),
    ({"issuedTo": "BOB", "paths": {"/bob/x": {}}}, 403, "paths: /bob/x is not in the namespace"),
    ({"issuedTo": "BOB", "paths": {"/noras": {}}}, 403, "paths: /noras is not in the namespace"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), REFUSED)
def test_a_body_that_is_not_one_is_refused(nora, bob, body, status, sentence):
    """One sentence, and nothing is made."""
    known = {"NORA": id_of(nora), "BOB": id_of(bob)}
    if "issuedTo" in body:
        body = body | {"issuedTo": known.get(body["issuedTo"], body["issuedTo"])}

    refused = nora.ask("POST", "/share", body)

    assert refused.status == status
    assert len(refused.errors) == 1
    assert refused.errors[0].startswith(sentence)
    assert nora.ask("GET", "/share").body == []


def test_one_account_issues_a_bounded_number_to_one_receiver(nora, bob, carl, monkeypatch):
    """Each request of the receiver looks at all of them; others may still share with it."""
    monkeypatch.setattr(limits, "shares_per_receiver_max", 2)
    share(nora, id_of(bob), duration=10)
    share(nora, id_of(bob))
    body = {"issuedTo": id_of(bob), "paths": READ}

    assert "2 Shares" in nora.ask("POST", "/share", body).errors[0]
    share(nora, id_of(carl))
    share(carl, id_of(bob), {"/carl": {"read": True}})
    nora.clock.now_ms += 10
    share(nora, id_of(bob))


def test_any_number_of_shared_paths_can_be_listed(nora, bob):
    """Thousands of paths are still one find."""
    for block in range(11):
        paths = {f"/nora/{block}/{n}": {"read": True} for n in range(100)}
        share(nora, id_of(bob), paths)
    for path in ("/nora/3/7/a", "/nora/10/99", "/nora/11/0", "/nora/3", "/nora/3/77a"):
        nora.flow(path)

    found = bob.ask("GET", "/flow?sort=path&order=asc")

    assert [flow["path"] for flow in found.body] == ["/nora/10/99", "/nora/3/7/a"]
