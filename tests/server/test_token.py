"""Tokens: made, used, told once or kept, expired, revoked."""

import pytest

from flowkit import limits
from flowkit.server.auth import hash_secret
from tests.server.visitor import Visitor, visiting

PATHS = {"/nora/x": {"dropRead": True, "dropWrite": False}}


def holder(nora, made):
    """Who holds a Token."""
    return Visitor(nora.app, nora.clock, "nora", made["tokenString"])


def make(nora, **members):
    """A new Token."""
    made = nora.ask("POST", "/token", {"paths": PATHS, **members})
    assert made.status == 201, made.errors
    return made.body


def test_a_token_is_made_with_what_it_was_given(nora):
    """The server adds the string, the issuer and the dates."""
    made = make(nora, description="bench")
    own = nora.ask("GET", "/identity").body[0]["id"]

    assert made["id"][0] == "k"
    assert len(made["tokenString"]) == 28
    assert (made["issuedBy"], made["creatorId"]) == (own, own)
    assert (made["paths"], made["description"]) == (PATHS, "bench")
    assert "expiresInMs" not in made
    assert nora.ask("GET", f"/token/{made['id']}").body == made
    assert nora.ask("GET", "/token").body == [made]
    assert nora.ask("MGET", "/token", [made["id"]]).body == {made["id"]: made}


def test_what_is_left_of_its_time_is_told(nora):
    """Computed with each answer; afterwards it is gone, and the next create removes it."""
    made = make(nora, duration=1000)
    nora.clock.now_ms += 400

    assert made["expiresInMs"] == 1000
    assert nora.ask("GET", f"/token/{made['id']}").body["expiresInMs"] == 600
    assert len(nora.ask("GET", "/token?filter=expiresInMs%20<%20700").body) == 1
    assert holder(nora, made).ask("GET", "/token").body[0]["expiresInMs"] == 600
    nora.clock.now_ms += 600
    assert holder(nora, made).ask("GET", "/token").status == 403
    assert nora.ask("GET", "/token").body == []
    assert nora.ask("GET", f"/token/{made['id']}").status == 404
    assert nora.ask("DELETE", f"/token/{made['id']}").status == 404
    make(nora)
    assert nora.app.store.read(lambda reader: reader.object("token", made["id"])) is None


def test_the_old_name_of_duration_is_taken(nora):
    """``expiresInMs`` on create, with a word only where both are there and differ."""
    made = nora.ask("POST", "/token", {"paths": PATHS, "expiresInMs": 1000})
    both = nora.ask("POST", "/token", {"paths": PATHS, "expiresInMs": 1000, "duration": 2000})

    assert (made.body["duration"], made.notes) == (1000, [])
    assert both.body["duration"] == 2000
    assert both.notes == ["expiresInMs: is another name of duration, which was taken"]


REFUSED = [
    ({}, "paths: is required"),
    ({"paths": {}}, "paths: must have at least one path"),
    ({"paths": []}, "paths: must be an object of paths"),
    ({"paths": {"x": {}}}, "paths.x: must be /<account>"),
    ({"paths": {"nora": {}}}, "paths.nora: must be /<account>"),
    ({"paths": {"/nora/é": {}}}, "paths./nora/é: must be /<account>"),
    ({"paths": {"/nora/x": True}}, "paths./nora/x: must be an object of flags"),
    ({"paths": {"/nora/x": {"dropRead": 1}}}, "paths./nora/x.dropRead: must be true or false"),
    ({"paths": {"/nora/x": {"write": True}}}, "paths./nora/x.write: is no flag of a Token"),
    ({"paths": {"/nora/x": {"dropread": True}}}, "paths./nora/x.dropread: is no flag"),
    ({"paths": {f"/nora/{n}": {} for n in range(101)}}, "paths: has 101 paths, the limit is 100"),
    ({"paths": PATHS, "duration": -1}, "duration: must be between 0"),
    ({"paths": PATHS, "duration": 2**62}, "duration: must be between 0"),
    ({"paths": PATHS, "expiresInMs": "1"}, "expiresInMs: must be a whole number"),
    ({"paths": PATHS, "expiresInMs": 2**62}, "expiresInMs: must be a whole number"),
]


@pytest.mark.parametrize(("body", "sentence"), REFUSED)
def test_a_body_that_is_not_one_is_refused(nora, body, sentence):
    """One sentence that names the member, and nothing is made."""
    refused = nora.ask("POST", "/token", body)

    assert refused.status == 400
    assert len(refused.errors) == 1
    assert refused.errors[0].startswith(sentence)
    assert nora.ask("GET", "/token").body == []


def test_every_fault_gets_a_sentence(nora):
    """Several at once, and bounded."""
    flags = {f"f{n}": True for n in range(500)}
    refused = nora.ask("POST", "/token", {"paths": {"x": {}, "/nora/x": flags}, "expiresInMs": {}})

    assert refused.status == 400
    assert len(refused.errors) == 100


def test_paths_are_normalised_and_spellings_united(nora):
    """As of Flows; the root of the namespace is a path here too."""
    paths = {"/Nora//X/": {"dropRead": True}, "/nora/x": {"dropWrite": True}, "/NORA/": {}}

    assert make(nora, paths=paths)["paths"] == {
        "/nora/x": {"dropRead": True, "dropWrite": True},
        "/nora": {},
    }


def test_only_what_is_the_accounts_own_can_be_given(nora, bob):
    """Not even what was shared with it."""
    bob_id = bob.ask("GET", "/identity").body[0]["id"]
    nora.ask("POST", "/share", {"issuedTo": bob_id, "paths": {"/nora/x": {"dropRead": True}}})

    refused = bob.ask("POST", "/token", {"paths": PATHS})

    assert refused.status == 403
    assert refused.errors == [
        "paths: /nora/x is not in the namespace of the account bob, which can give only what is"
        " its own"
    ]


def test_a_token_cannot_be_changed(nora):
    """405 for every way of changing."""
    made = make(nora)

    for method, address, body in [
        ("PUT", f"/token/{made['id']}", {"description": "x"}),
        ("MPUT", "/token", {made["id"]: {"description": "x"}}),
        ("PUT", f"/token/{made['id']}/description", {"description": "x"}),
    ]:
        assert nora.ask(method, address, body).status in (404, 405)
    assert nora.ask("PUT", f"/token/{made['id']}", {}).status == 405
    assert "description" not in nora.ask("GET", f"/token/{made['id']}").body


def test_a_revoked_token_opens_nothing_any_more(nora):
    """With the next request."""
    made = make(nora)
    device = holder(nora, made)
    assert device.ask("GET", "/flow").status == 200

    assert nora.ask("DELETE", f"/token/{made['id']}").body == {}

    assert device.ask("GET", "/flow").status == 403


def test_a_token_lists_the_flows_on_its_paths(nora):
    """Whole segments below its paths; system Flows only where the filter names ``path``."""
    for path in ("/nora/x", "/nora/x/y", "/nora/xy", "/nora/z"):
        nora.flow(path)
    device = holder(nora, make(nora))
    all_of_it = holder(nora, make(nora, paths={"/nora": {}}))

    def paths(who, asked=""):
        return {flow["path"] for flow in who.ask("GET", f"/flow{asked}").body}

    assert paths(device) == {"/nora/x", "/nora/x/y"}
    assert paths(all_of_it) == {"/nora/x", "/nora/x/y", "/nora/xy", "/nora/z"}
    assert "/nora/:inbox" in paths(all_of_it, "?filter=EXISTS%20path")


def test_a_token_that_only_writes_reads_nothing_through_its_writes(nora):
    """The answer to a change shows what was said, not what others wrote beside it."""
    flow = nora.flow("/nora/x")
    drop = nora.ask(
        "POST", f"/drop/{flow['id']}", {"elems": {"secret": 1}, "location": {"lat": 1, "lon": 2}}
    ).body
    device = holder(nora, make(nora, paths={"/nora/x": {"dropWrite": True}}))
    address = f"/drop/{flow['id']}/{drop['id']}"

    changed = device.ask("PUT", address, {"fhash": "a"}).body
    many = device.ask("MPUT", f"/drop/{flow['id']}", {drop["id"]: {"fhash": "b"}}).body

    assert (changed["fhash"], changed["version"]) == ("a", 1)
    for told in (changed, many[drop["id"]]):
        assert not {"elems", "location"} & set(told)
    assert device.ask("PUT", address, {"elems": {"y": 2}}).body["elems"] == {"y": 2}
    assert device.ask("GET", address).status == 403


def test_a_token_has_answers_of_its_own(nora):
    """A request id answers only the credential that asked with it."""
    nora.flow("/nora/x")
    device = holder(nora, make(nora, paths={"/nora/x": {"dropWrite": True}}))
    other = holder(nora, make(nora, paths={"/nora/x": {"dropRead": True}}))
    body, headers = {"path": "/nora/x", "elems": {"a": 1}}, {"x-request-id": "same"}

    first = device.ask("POST", "/drop", body, headers=headers)

    assert device.ask("POST", "/drop", body, headers=headers).body == first.body
    assert other.ask("POST", "/drop", body, headers=headers).status == 403
    assert nora.ask("POST", "/drop", body, headers=headers).body["id"] != first.body["id"]


def files_hold(folder, secret):
    """Whether the bytes of the store hold a text."""
    return any(secret.encode() in each.read_bytes() for each in folder.rglob("*") if each.is_file())


@pytest.mark.parametrize("keep", [True, False])
def test_the_store_holds_a_string_only_where_it_has_to(tmp_path, keep):
    """Without ``keep_token_strings`` it is told once, and nothing in the folder has it."""
    folder = tmp_path / "data"
    with visiting(folder, keep_token_strings=keep) as (nora, _):
        headers = {"x-request-id": "once"}
        body = {"paths": PATHS}
        made = nora.ask("POST", "/token", body, headers=headers).body
        again = nora.ask("POST", "/token", body, headers=headers).body
        read = nora.ask("GET", f"/token/{made['id']}").body
        secret, master = made["tokenString"], nora.token

        assert holder(nora, made).ask("GET", "/token").status == 200
        assert files_hold(folder, secret) is keep
        assert not files_hold(folder, master)
        assert (read.get("tokenString"), again.get("tokenString")) == (
            (secret, secret) if keep else (None, None)
        )
        assert again["id"] == made["id"]

    assert files_hold(folder, secret) is keep
    assert not files_hold(folder, master)
    assert any(
        hash_secret(secret) in each.read_bytes() for each in folder.rglob("*") if each.is_file()
    )


def test_an_account_holds_a_bounded_number(nora, monkeypatch):
    """Expired ones do not count."""
    monkeypatch.setattr(limits, "objects_max", 2)
    make(nora, duration=10)
    make(nora)
    refused = nora.ask("POST", "/token", {"paths": PATHS})
    nora.clock.now_ms += 10

    assert refused.status == 400
    assert nora.ask("POST", "/token", {"paths": PATHS}).status == 201
