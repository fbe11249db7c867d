"""Secrets, and the one function that decides."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import Forbidden, SettingsError
from flowkit.server.auth import (
    Credential,
    Grant,
    authenticate,
    check_account_name,
    covers,
    credential_of,
    ensure_account,
    expiry_of,
    grants_of,
    hash_secret,
    is_live,
    may,
    mint_secret,
    mint_token_string,
    rotate,
)
from flowkit.server.store.base import Account

NORA = Credential(Account("nora", "i" + "0" * 24))

VERDICTS = [
    ("read", "/nora/x", False, True),
    ("write", "/nora/x/y", False, True),
    ("dropRead", "/nora/:inbox", False, True),
    ("dropWrite", "/nora/x", True, True),
    ("read", "/noras/x", False, False),
    ("read", "/bob/nora", False, False),
    ("read", "/bob/x", True, True),
    ("dropRead", "/bob/x", True, True),
    ("write", "/bob/x", True, False),
    ("dropWrite", "/bob/x", True, False),
]


def test_a_secret_is_32_letters_and_digits_and_new_each_time():
    """Minting never repeats, and uses the whole alphabet."""
    secrets = [mint_secret() for _ in range(200)]

    assert len(set(secrets)) == 200
    assert {len(secret) for secret in secrets} == {32}
    assert set("".join(secrets)) == set(string.ascii_letters + string.digits)


def test_a_secret_is_kept_as_its_digest():
    """SHA-256 of the text; nothing of the secret can be read off."""
    assert hash_secret("abc") == hashlib.sha256(b"abc").digest()
    assert hash_secret("\udc80")


@pytest.mark.parametrize(("action", "path", "public", "allowed"), VERDICTS)
def test_a_master_token_may_do_everything_at_home_and_read_what_is_public(
    action, path, public, allowed
):
    """A refusal comes with its reason."""
    verdict = may(NORA, action, path, public=public)

    assert bool(verdict) is allowed
    assert verdict.why_not == (
        "" if allowed else f"path: the account nora has no right {action} at {path}"
    )


@pytest.mark.parametrize(
    ("prefix", "path", "covered"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b", "/a/b/c", True),
        ("/a/b", "/a/bc", False),
        ("/a/b", "/a", False),
    ],
)
def test_a_grant_covers_whole_segments(prefix, path, covered):
    """Recursive, but not by letters (1.3)."""
    assert covers(prefix, path) is covered


@pytest.mark.parametrize("name", ["nora", "n", "a.b-c_9", "x" * 64])
def test_an_account_may_have_a_name_that_is_a_segment(name):
    """The name is the first segment of paths."""
    assert check_account_name(name) == name


@pytest.mark.parametrize("name", ["", "Nora", "a/b", "a:b", "é", "x" * 65, "a b", "..", "a\n"])
def test_other_names_are_refused(name):
    """The error says what a name may be."""
    with pytest.raises(SettingsError, match="1 to 64"):
        check_account_name(name)


def test_an_account_is_made_once_and_tells_its_secret_once(nora):
    """The second call finds it and has no secret to tell."""
    store = nora.app.store

    account, secret = ensure_account(store, "carl")
    again, nothing = ensure_account(store, "carl")

    assert account == again
    assert secret is not None
    assert nothing is None
    assert store.read(lambda reader: authenticate(reader, secret, "carl", 0)).account == account


def test_a_new_token_ends_the_old_one(nora):
    """Rotation takes effect with the next request; there must be such an account."""
    old = nora.token

    nora.token = rotate(nora.app.store, "nora")

    assert nora.ask("GET", "/flow").status == 200
    nora.token = old
    assert nora.ask("GET", "/flow").status == 403
    with pytest.raises(SettingsError, match="'nobody'"):
        rotate(nora.app.store, "nobody")


def test_a_token_speaks_for_its_own_account_only(nora, bob):
    """A right token in the wrong place is refused like a wrong one."""
    store = nora.app.store

    for token, account in [(bob.token, "nora"), ("", "nora"), (None, "nora"), ("x", "nora")]:
        with pytest.raises(Forbidden):
            store.read(lambda reader, t=token, a=account: authenticate(reader, t, a, 0))


def test_no_secret_lies_in_the_data_folder(tmp_path, nora):
    """The files of the store hold the digest, never the token."""
    nora.ask("POST", "/flow", {"path": "/nora/x"}, headers={"x-request-id": "a"})
    files = [each for each in (tmp_path / "data").rglob("*") if each.is_file()]

    assert any(hash_secret(nora.token) in each.read_bytes() for each in files)
    assert not any(nora.token.encode() in each.read_bytes() for each in files)


# Grants

FLAGS = ("read", "write", "dropRead", "dropWrite")
PATHS = st.lists(st.sampled_from(["a", "b", "bc"]), max_size=3).map(
    lambda names: "".join(f"/{name}" for name in ["nora", *names])
)
GRANTS = st.builds(Grant, PATHS, st.frozensets(st.sampled_from(FLAGS)))
OWN = Account("bob", "i" + "1" * 24)


def credential(kind, *grants):
    """Bob's, with rights at nora's."""
    return Credential(OWN, kind, tuple(grants))


@given(st.lists(GRANTS, max_size=4), st.sampled_from(FLAGS), PATHS)
def test_rights_are_the_union_of_grants(grants, action, path):
    """Exactly what some grant allows; one more grant takes nothing away."""
    steps = path.split("/")
    above = {"/".join(steps[:count]) for count in range(2, len(steps) + 1)}
    expected = any(grant.path in above and action in grant.flags for grant in grants)

    for kind in ("master", "token", "identity"):
        assert bool(may(credential(kind, *grants), action, path)) is expected
        if expected:
            assert may(credential(kind, *grants, Grant("/nora", frozenset())), action, path)


@given(st.lists(GRANTS, max_size=6), PATHS)
def test_the_readable_paths_are_the_widest_ones(grants, path):
    """Below one of them exactly if it may be read, and none of them below another."""
    who = credential("token", *grants)
    readable = who.readable

    assert any(covers(prefix, path) for prefix in readable) is bool(may(who, "read", path))
    assert not any(a != b and covers(a, b) for a in readable for b in readable)


def test_an_owner_reads_its_namespace_and_what_was_shared():
    """A Token reads its own paths alone."""
    grant = Grant("/nora/x", frozenset(["read"]))

    assert credential("master", grant).readable == ["/bob", "/nora/x"]
    assert credential("identity", grant).readable == ["/bob", "/nora/x"]
    assert credential("token", grant).readable == ["/nora/x"]


def test_a_token_has_no_right_that_its_paths_do_not_name():
    """Neither its account's namespace nor what is public to accounts."""
    token = credential("token", Grant("/bob/a", frozenset(["read", "dropRead"])))

    assert may(token, "dropRead", "/bob/a/b")
    refused = may(token, "dropWrite", "/bob/a/b")
    assert refused.why_not == "path: this Token has no right dropWrite at /bob/a/b"
    assert not may(token, "read", "/bob/b")
    assert not may(token, "dropRead", "/nora/x", public=True)


@pytest.mark.parametrize(
    ("flags", "implied", "actions"),
    [
        ({}, (), set()),
        ({}, ("read",), {"read"}),
        ({"dropRead": True, "dropWrite": False}, ("read",), {"read", "dropRead"}),
        ({"read": True, "write": True}, (), {"read", "write"}),
        ({"administer": True}, (), {"dropRead", "dropWrite"}),
        ({"administer": False, "dropRead": True}, (), {"dropRead"}),
    ],
)
def test_flags_of_a_path_become_a_grant(flags, implied, actions):
    """``administer`` stands for both flags about Drops and nothing more (1.9)."""
    assert grants_of({"/nora/x": flags}, implied=implied) == (Grant("/nora/x", actions),)


@pytest.mark.parametrize(
    ("duration", "expires_at"), [({}, None), ({"duration": 0}, None), ({"duration": 5}, 105)]
)
def test_a_duration_ends(duration, expires_at):
    """At that millisecond it is over; none and 0 are for ever."""
    doc = {"creationDate": 100, **duration}

    assert expiry_of(doc) == expires_at
    assert is_live(doc, 104)
    assert is_live(doc, 105) is (expires_at is None)


def test_the_string_of_a_token_has_28_letters_and_digits():
    """Shorter than a master token, so that the two can be told apart."""
    assert len(mint_token_string()) == 28
    assert mint_token_string().isalnum()


def test_a_token_stops_at_the_millisecond_of_its_end(nora):
    """Refused with its reason, which only who holds it hears."""
    body = {"paths": {"/nora/x": {"dropRead": True}}, "duration": 1000}
    made = nora.ask("POST", "/token", body).body
    store, until = nora.app.store, nora.clock.now_ms + 1000

    def who(now_ms):
        return store.read(lambda one: authenticate(one, made["tokenString"], "nora", now_ms))

    assert (who(until - 1).kind, who(until - 1).token_id) == ("token", made["id"])
    assert who(until - 1).expires_at == until
    with pytest.raises(Forbidden, match="expired"):
        who(until)


def test_what_the_server_does_for_an_owner_has_the_owners_rights(nora, bob):
    """Its namespace, and the Shares that are live at the time asked about."""
    bob_id = bob.ask("GET", "/identity").body[0]["id"]
    paths = {"/nora/x": {"dropWrite": True}}
    nora.ask("POST", "/share", {"issuedTo": bob_id, "paths": paths, "duration": 1000})
    store, now = nora.app.store, nora.clock.now_ms

    def who(now_ms):
        return store.read(lambda one: credential_of(one, one.account("bob"), now_ms))

    assert who(now).kind == "identity"
    assert may(who(now), "write", "/bob/x")
    assert may(who(now), "dropWrite", "/nora/x/y")
    assert not may(who(now), "dropRead", "/nora/x/y")
    assert not may(who(now + 1000), "dropWrite", "/nora/x/y")
