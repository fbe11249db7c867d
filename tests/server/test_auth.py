"""Secrets, and the one function that decides."""

import hashlib
import string

import pytest

from flowkit.errors import Forbidden, SettingsError
from flowkit.server.auth import (
    Credential,
    authenticate,
    check_account_name,
    covers,
    ensure_account,
    hash_secret,
    may,
    mint_secret,
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
