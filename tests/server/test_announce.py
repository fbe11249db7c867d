"""The inbox: what tells of a change, where, and what does not disturb it."""

import pytest

from flowkit.protocol.resources import RESOURCES
from flowkit.server.announce import SUMMARIES, announce
from flowkit.server.auth import Credential

ABOUT_CREDENTIALS = frozenset({"tokenString", "password", "masterToken", "email"})


def inbox(who):
    """The elements of an account's notifications, oldest first; the id of none of them."""
    found = who.ask("GET", f"/drop?path=/{who.account}/:inbox&order=asc&limit=1000")
    return [drop["elems"] for drop in found.body] if found.status == 200 else []


def user(who):
    """An account as a notification names it."""
    own = who.ask("GET", "/identity").body[0]
    return {"name": own["name"], "id": own["id"]}


def test_a_notification_has_the_shape_of_the_protocol(nora):
    """Every member of it, and nothing else (1.13)."""
    flow = nora.flow("/nora/greenhouse")
    box = nora.ask("GET", "/flow?filter=path%20=~%20/inbox/").body

    assert inbox(nora) == [
        {
            "kind": "NOTIFICATION",
            "action": "CREATE",
            "object": {"kind": "FLOW", "id": flow["id"]},
            "user": user(nora),
            "namespacesAffected": ["nora"],
            "details": {"summary": {"path": "/nora/greenhouse"}},
        }
    ]
    assert [(one["path"], one["capacity"]) for one in box] == [("/nora/:inbox", 1000)]


def test_create_update_and_delete_are_told_and_drops_are_not(nora):
    """In the order of the commits; a change that failed is not told."""
    flow = nora.flow("/nora/x")
    drop = nora.drop(flow, a=1)
    nora.ask("PUT", f"/flow/{flow['id']}", {"capacity": 5})
    nora.ask("MPUT", "/flow", {flow["id"]: {"description": "x"}})
    nora.ask("PUT", f"/flow/{flow['id']}/description", {"description": "y"})
    nora.ask("PUT", f"/flow/{flow['id']}", {"path": "/nora/other"})
    nora.ask("POST", "/flow", {"path": "/nora/x"})
    nora.ask("DELETE", f"/drop/{flow['id']}/{drop['id']}")
    nora.ask("DELETE", f"/flow/{flow['id']}")

    assert [one["action"] for one in inbox(nora)] == ["CREATE", *["UPDATE"] * 3, "DELETE"]


def test_every_resource_of_the_namespace_is_told(nora, bob):
    """Groups, Tokens and Shares by what tells one from another, never a secret."""
    bob_id = user(bob)["id"]
    group = nora.ask("POST", "/group", {"memberIds": [bob_id], "displayName": "us"}).body
    paths = {"/nora/x": {"dropRead": True}}
    token = nora.ask("POST", "/token", {"paths": paths}).body
    nora.ask("DELETE", f"/token/{token['id']}")
    nora.ask("DELETE", f"/group/{group['id']}")

    told = [(one["action"], one["object"], one["details"]["summary"]) for one in inbox(nora)]

    assert told == [
        ("CREATE", {"kind": "GROUP", "id": group["id"]}, {"displayName": "us"}),
        ("CREATE", {"kind": "TOKEN", "id": token["id"]}, {"paths": paths}),
        ("DELETE", {"kind": "TOKEN", "id": token["id"]}, {"paths": paths}),
        ("DELETE", {"kind": "GROUP", "id": group["id"]}, {"displayName": "us"}),
    ]
    assert token["tokenString"] not in str(inbox(nora))
    assert inbox(bob) == []


def test_a_share_is_told_to_its_receivers(nora, bob):
    """Directly, or as members of a group; both sides read the same."""
    nora_id, bob_id = user(nora)["id"], user(bob)["id"]
    paths = {"/nora/x": {"read": True}}
    group = bob.ask("POST", "/group", {"memberIds": [nora_id, bob_id]}).body
    share = nora.ask("POST", "/share", {"issuedTo": bob_id, "paths": paths}).body
    nora.ask("POST", "/share", {"issuedTo": group["id"], "paths": paths})
    nora.ask("DELETE", f"/share/{share['id']}")

    told = [one for one in inbox(bob) if one["object"]["kind"] == "SHARE"]

    assert told == inbox(nora)
    assert [one["action"] for one in told] == ["CREATE", "CREATE", "DELETE"]
    assert [one["user"]["name"] for one in told] == ["nora"] * 3
    assert [one["namespacesAffected"] for one in told] == [["nora", "bob"]] * 3
    assert told[0]["details"]["summary"] == {"issuedTo": bob_id, "paths": paths}


def test_a_change_in_a_shared_namespace_is_told_to_its_owner(nora, bob):
    """By whom it was done; the one who did it is told nothing."""
    paths = {"/nora/x": {"read": True, "write": True}}
    nora.ask("POST", "/share", {"issuedTo": user(bob)["id"], "paths": paths})
    before = len(inbox(bob))
    flow = bob.flow("/nora/x/bobs")

    last = inbox(nora)[-1]

    assert (last["object"]["id"], last["user"]) == (flow["id"], user(bob))
    assert last["namespacesAffected"] == ["nora"]
    assert len(inbox(bob)) == before


def test_an_inbox_is_a_flow_of_its_owner(nora):
    """It can be changed and removed; its filter decides what stays away, never the change."""
    nora.flow("/nora/x")
    box = nora.ask("GET", "/flow?filter=EXISTS%20path&sort=path&order=asc&limit=1").body[0]
    wanted = {"filter": 'object.kind == "GROUP"', "capacity": 2}
    assert nora.ask("PUT", f"/flow/{box['id']}", wanted).status == 200

    nora.flow("/nora/y")
    for _ in range(3):
        assert nora.ask("POST", "/group", {"memberIds": []}).status == 201
    kinds = [one["object"]["kind"] for one in inbox(nora)]
    assert kinds == ["GROUP", "GROUP"]
    assert nora.ask("DELETE", f"/flow/{box['id']}").status == 200
    assert inbox(nora) == []
    nora.flow("/nora/z")
    assert [one["details"]["summary"]["path"] for one in inbox(nora)] == ["/nora/z"]


def test_a_notification_and_its_change_are_one_commit(nora):
    """What fails after the change takes the notification with it."""

    def job(writer):
        who = Credential(writer.account("nora"), at_ms=nora.clock.now_ms)
        flow = writer.create_flow({"path": "/nora/x", "capacity": 1}, creator="i" + "0" * 24)
        announce(writer, who, "CREATE", "flow", flow.doc)
        raise LookupError

    with pytest.raises(LookupError):
        nora.app.store.write(job)

    assert nora.ask("GET", "/flow?filter=EXISTS%20path").body == []


def test_what_is_told_of_each_resource_is_no_secret():
    """Each of them has a summary, of members that it has."""
    assert set(SUMMARIES) == set(RESOURCES) - {"drop", "identity"}
    for name, members in SUMMARIES.items():
        assert set(members) <= set(RESOURCES[name].members)
        assert not set(members) & ABOUT_CREDENTIALS
