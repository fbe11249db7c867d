"""Identities over the protocol."""

from urllib.parse import quote

import pytest

from tests.server.visitor import Visitor

GONE = "i" + "0" * 24


@pytest.fixture
def own(nora):
    """Nora's identity."""
    return nora.ask("GET", "/identity").body[0]


def test_an_account_finds_itself(nora, own):
    """An array whose first entry is the caller, without the token, which nobody has any more."""
    assert nora.ask("GET", "/identity/").body == [own]
    assert own["name"] == "nora"
    assert own["id"][0] == "i"
    assert "masterToken" not in own


def test_find_takes_the_parameters(nora, own):
    """Filter, limit and only work on identities too."""
    assert nora.ask("GET", "/identity?filter=name%20==%20'nora'&only=name").body == [
        {"id": own["id"], "name": "nora"}
    ]
    assert nora.ask("GET", "/identity?filter=email%20==%20'bob'").body == []
    assert nora.ask("GET", "/identity?limit=0").body == []
    assert isinstance(nora.ask("GET", "/identity?explain=1").head["plan"], dict)


def test_others_show_their_name_and_picture_only(nora, bob, own):
    """``id``, ``name``, ``icon``; the owner sees everything (1.8)."""
    changes = {"email": "n@x.org", "firstName": "Nora", "icon": "data:x"}
    mine = nora.ask("PUT", f"/identity/{own['id']}", changes).body

    assert {name: mine[name] for name in changes} == changes
    assert nora.ask("GET", f"/identity/{own['id']}").body == mine
    theirs = {"id": own["id"], "name": "nora", "icon": "data:x"}
    assert bob.ask("GET", f"/identity/{own['id']}").body == theirs
    assert bob.ask("MGET", "/identity", [own["id"], GONE]).body == {own["id"]: theirs}


def test_the_reference_to_a_foreign_creator_is_as_short(nora, bob, own):
    """References show what the caller may see, no more (3.6)."""
    nora.ask("PUT", f"/identity/{own['id']}", {"email": "n@x.org"})
    flow = nora.flow("/nora/x", public=True)

    seen = bob.ask("GET", f"/flow/{flow['id']}?refs=1").head["references"]

    assert seen == {own["id"]: {"id": own["id"], "name": "nora"}}


def test_an_identity_is_changed_by_its_owner(nora, bob, own):
    """403 for others, who may read it; 404 for what is not there."""
    assert bob.ask("PUT", f"/identity/{own['id']}", {"firstName": "x"}).status == 403
    assert nora.ask("PUT", f"/identity/{GONE}", {}).status == 404
    changed = nora.ask("PUT", f"/identity/{own['id']}", {"lastName": "B", "name": "z", "x": 1})
    assert changed.body["lastName"] == "B"
    assert changed.body["name"] == "nora"
    assert changed.notes == [
        "x: is not a member of an identity and was ignored",
        "name: is set by the server and was ignored",
    ]
    assert nora.ask("PUT", f"/identity/{own['id']}/lastName", {"lastName": None}).body == {}
    assert nora.ask("PUT", f"/identity/{own['id']}", {"email": 5}).errors == [
        "email: must be a string"
    ]


def test_updating_many_identities_is_all_or_nothing(nora, bob, own):
    """One that is not the caller's, and nothing is changed."""
    other = bob.ask("GET", "/identity").body[0]

    refused = nora.ask("MPUT", "/identity", {own["id"]: {"firstName": "N"}, other["id"]: {}})

    assert refused.status == 403
    assert "firstName" not in nora.ask("GET", f"/identity/{own['id']}").body
    changed = nora.ask("MPUT", "/identity", {own["id"]: {"firstName": "N"}})
    assert changed.body[own["id"]]["firstName"] == "N"


def test_identities_are_neither_made_nor_removed_over_the_protocol(nora, own):
    """403 to everybody but the server's administrator (1.8)."""
    assert nora.ask("POST", "/identity", {"name": "x"}).status == 403
    assert nora.ask("DELETE", f"/identity/{own['id']}").status == 403
    assert nora.ask("DELETE", f"/identity/{GONE}").status == 404


# Others


def test_others_are_found_by_name_behind_the_caller(nora, bob, own):
    """To issue a Share to them; the caller itself is still the first."""
    other = {"id": bob.ask("GET", "/identity").body[0]["id"], "name": "bob"}

    def found(text):
        return nora.ask("GET", f"/identity?filter={quote(text)}&order=asc&sort=name").body

    assert found("name == 'bob'") == [other]
    assert found("name IN ['bob', 'nora', 'none']") == [own, other]
    assert found("name == 'bob' && EXISTS id") == [other]
    assert found("name =~ /o/") == [own, other]
    assert found(f"id == '{other['id']}'") == [other]
    assert found("name == 5") == []
    assert found("name != 'bob'") == [own]
    assert found("EXISTS creationDate") == [own]


def test_pages_of_others_begin_with_the_caller(nora, own):
    """Start and limit count the caller as the first."""
    asked = f"/identity?filter={quote('EXISTS name')}&limit=1"

    assert nora.ask("GET", asked).body == [own]
    assert [one["name"] for one in nora.ask("GET", f"{asked}&start=1").body] == ["bob"]
    assert nora.ask("GET", f"{asked}&start=2").body == []


def test_a_filter_sees_of_others_what_is_shown_of_them(nora, bob):
    """Nobody's address can be guessed letter by letter."""
    own = bob.ask("GET", "/identity").body[0]
    bob.ask("PUT", f"/identity/{own['id']}", {"email": "bob@example.org"})
    asked = quote("email =~ /^b/ && EXISTS name")

    assert nora.ask("GET", f"/identity?filter={asked}").body == []
    assert len(bob.ask("GET", f"/identity?filter={asked}").body) == 1


def test_a_token_looks_at_its_own_account(nora, bob, own):
    """Without the address and the Shares; others are 403, found or not."""
    nora.ask("PUT", f"/identity/{own['id']}", {"email": "nora@example.org", "icon": "n"})
    made = nora.ask("POST", "/token", {"paths": {"/nora/x": {"dropRead": True}}}).body
    device = Visitor(nora.app, nora.clock, "nora", made["tokenString"])
    other = bob.ask("GET", "/identity").body[0]["id"]

    [seen] = device.ask("GET", "/identity").body
    assert (seen["name"], seen["icon"]) == ("nora", "n")
    assert not {"email", "shares", "masterToken"} & set(seen)
    assert device.ask("GET", f"/identity?filter={quote('EXISTS name')}").body == [seen]
    for unseen in (other, "i" + "0" * 24):
        refused = device.ask("GET", f"/identity/{unseen}")
        assert (refused.status, refused.errors) == (
            403,
            ["A Token can look at the Identity of its own account only"],
        )
    changed = device.ask("PUT", f"/identity/{own['id']}", {"icon": "x"})
    assert changed.errors == [
        "A Token cannot change an Identity: it takes the right 'write', the master token's"
    ]
