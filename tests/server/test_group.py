"""Groups: lists of identities."""

import pytest

from flowkit import limits


@pytest.fixture
def ids(nora, bob):
    """The identities of nora and bob."""
    return [who.ask("GET", "/identity").body[0]["id"] for who in (nora, bob)]


def make(nora, member_ids, **members):
    """A new group."""
    made = nora.ask("POST", "/group", {"memberIds": member_ids, **members})
    assert made.status == 201, made.errors
    return made.body


def test_members_are_a_set(nora, ids):
    """Each once, in the order in which they were named; nobody is a group too."""
    made = make(nora, [ids[1], ids[0], ids[1]], displayName="both")

    assert made["memberIds"] == [ids[1], ids[0]]
    assert made["id"][0] == "g"
    assert nora.ask("GET", f"/group/{made['id']}").body == made
    assert make(nora, [])["memberIds"] == []


def test_members_change_and_are_checked(nora, bob, ids):
    """A change that fails changes nothing."""
    made = make(nora, [ids[1]])
    unknown = "i" + "0" * 24
    address = f"/group/{made['id']}"

    refused = nora.ask("PUT", address, {"memberIds": [ids[0], unknown]})
    assert refused.errors == [f"memberIds: there is no Identity {unknown}"]
    assert bob.ask("GET", address).status == 200
    assert nora.ask("PUT", address, {"memberIds": None}).status == 400
    assert nora.ask("PUT", f"{address}/memberIds", {"memberIds": [ids[0]]}).body == {
        "memberIds": [ids[0]]
    }
    assert bob.ask("GET", address).status == 404
    assert bob.ask("GET", "/group").body == []


@pytest.mark.parametrize(
    ("member_ids", "sentence"),
    [
        (["i" + "0" * 24], "memberIds: there is no Identity"),
        (["f" + "0" * 24], "memberIds: there is no Identity"),
        (["nora"], "memberIds: must be an array of ids"),
        ("nora", "memberIds: must be an array of ids"),
        (None, "memberIds: is required"),
        ([f"i{n:024x}" for n in range(1001)], "memberIds: has 1001 members, the limit is 1000"),
    ],
)
def test_who_does_not_exist_is_no_member(nora, member_ids, sentence):
    """400, and no group."""
    refused = nora.ask("POST", "/group", {"memberIds": member_ids})

    assert refused.status == 400
    assert refused.errors[0].startswith(sentence)
    assert limits.group_members_max == 1000
    assert nora.ask("GET", "/group").body == []


def test_members_see_a_group_and_only_its_owner_changes_it(nora, bob, ids):
    """403 for a member: it may read it."""
    made = make(nora, ids)

    assert bob.ask("GET", "/group").body == [made]
    assert bob.ask("MGET", "/group", [made["id"]]).body == {made["id"]: made}
    refused = bob.ask("PUT", f"/group/{made['id']}", {"displayName": "x"})
    assert (refused.status, refused.errors) == (403, ["The Group belongs to another account"])
    assert bob.ask("DELETE", f"/group/{made['id']}").status == 403
    assert nora.ask("GET", "/group?filter=memberIds%20CONTAINS%20['" + ids[1] + "']").body == [made]
