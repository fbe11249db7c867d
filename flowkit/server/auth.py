"""Who is asking, and what they may do: minting, hashing and the one function that decides.

A secret is looked up by its SHA-256 digest, and a master token is kept as nothing else. A plain
fast hash is right here, unlike for passwords: a secret is 28 or 32 random letters and digits (166
or 190 bits), so there is nothing to guess that salt or slowness could protect, and every request is
looked up by it. Looking up by digest also means that no comparison's duration tells anything about
a secret.

A provisioning token is good for becoming a device and for nothing else: it opens the routes that
say so, and no other door.

Rights are grants: a path and the flags that hold there and below, by whole segments. Grants are
united, never subtracted. An owner has every right in its own namespace and, elsewhere, what live
Shares grant to its identity or to its groups. A Token has what its own paths say and nothing else:
no Share reaches it, and what is ``public`` is so for accounts.

Source: protocol 3.1, 3.4 (403 and 404), 8 (credentials and permissions), 1.3 (whole segments), 1.5
(``public``), 1.9, 1.10 (flags).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from flowkit.errors import Forbidden, SettingsError
from flowkit.protocol.resources import PREFIXES
from flowkit.server.store.base import Account, Reader, Store, Writer

__all__ = [
    "Action",
    "Credential",
    "Grant",
    "Verdict",
    "authenticate",
    "check_account_name",
    "covers",
    "credential_of",
    "ensure_account",
    "expiry_of",
    "grants_of",
    "hash_secret",
    "is_live",
    "may",
    "mint_secret",
    "mint_token_string",
    "rotate",
]

Action = Literal["read", "write", "dropRead", "dropWrite"]
"""The flags of 8.2; ``read`` and ``write`` are about Flows and the like, the others about Drops."""

_ALPHABET = string.ascii_letters + string.digits
_MASTER_TOKEN_CHARS = 32
_TOKEN_STRING_CHARS = 28
_ACCOUNT_NAME = re.compile(r"[a-z0-9_.-]{1,64}")

_ADMINISTER: tuple[Action, ...] = ("dropRead", "dropWrite")
"""What the flag ``administer`` of old clients stands for, in Tokens and Shares alike (1.9)."""

_FLAGS: tuple[Action, ...] = ("read", "write", "dropRead", "dropWrite")

NO_CREDENTIAL = "X-Auth-Token: is missing or not a token of this account"
"""One sentence for a missing, an unknown and a foreign token: which it was is nobody's business."""

EXPIRED = "X-Auth-Token: this Token has expired"
"""Only who holds the Token hears it."""

FOR_PROVISIONING_ALONE = (
    "X-Auth-Token: a provisioning token only makes devices: it takes the right of another token"
)
"""What a provisioning token is told everywhere but where devices are provisioned."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights at a path and everywhere below it.

    Attributes:
        path: normalised; whole segments count.
        flags: the actions that it allows.
    """

    path: str
    flags: frozenset[Action]


@dataclass(frozen=True, slots=True)
class Credential:
    """The right that came with a request.

    Attributes:
        account: whose it is.
        kind: ``master`` and ``identity`` have every right in the account's namespace; the latter
            is what the server does in the owner's name. ``token`` has its grants alone;
            ``provisioning`` has no right at all but to make devices.
        grants: rights beside the namespace: those of Shares, or those of the Token.
        token_id: the id of the Token or provisioning token, None for an owner.
        expires_at: when the Token stops working, in ms since 1970 UTC; None for never.
        at_ms: the time for which the rights were gathered, in ms since 1970 UTC.
        device_id: the id of the Device that the Token was issued to (the ``deviceId`` of the
            Token's state, see ``handlers/token.py``); None for every other credential.
    """

    account: Account
    kind: Literal["master", "token", "identity", "provisioning"] = "master"
    grants: tuple[Grant, ...] = ()
    token_id: str | None = None
    expires_at: int | None = None
    at_ms: int = 0
    device_id: str | None = None

    @property
    def scope(self) -> str:
        """Whose the lines are that it sends on: those of its device, else those of the account."""
        return self.device_id or f"/{self.account.name}"

    @property
    def is_owner(self) -> bool:
        """Whether it may do what its account may do; false for Tokens."""
        return self.kind in ("master", "identity")

    @property
    def key(self) -> str:
        """What tells it from every other credential; no secret."""
        name = self.account.name
        return name if self.token_id is None else f"{name} {self.token_id}"

    @property
    def readable(self) -> list[str]:
        """The paths at and below which it may ``read``; none of them is below another."""
        own = [f"/{self.account.name}"] if self.is_owner else []
        paths = {*own, *(grant.path for grant in self.grants if "read" in grant.flags)}
        widest: list[str] = []
        for path in sorted(paths, key=lambda each: each.split("/")):  # what is below comes next
            if not widest or not covers(widest[-1], path):
                widest.append(path)
        return widest


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is allowed and, if not, one sentence that says why not."""

    allowed: bool
    why_not: str = ""

    def __bool__(self) -> bool:
        return self.allowed


_ALLOWED = Verdict(True)


def mint_secret() -> str:
    """A new master token: 32 random letters and digits."""
    return _minted(_MASTER_TOKEN_CHARS)


def mint_token_string() -> str:
    """The secret of a new Token: 28 random letters and digits."""
    return _minted(_TOKEN_STRING_CHARS)


def _minted(chars: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(chars))


def hash_secret(secret: str) -> bytes:
    """The digest under which a secret is kept and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def authenticate(
    reader: Reader, token: str | None, account: str, now_ms: int, *, provisioning: bool = False
) -> Credential:
    """The credential behind *token*, for a request about *account*.

    Args:
        reader: the snapshot in which the request is answered.
        token: a master token, or the string of a Token or provisioning token, as it came.
        account: the account in the address.
        now_ms: the time of the request, in ms since 1970 UTC.
        provisioning: whether a provisioning token will do.

    Raises:
        Forbidden: there is no such token, it belongs to another account, it has expired, or it is
            a provisioning token.
    """
    secret = reader.credential(hash_secret(token)) if token else None
    if secret is None or secret.account.name != account:
        raise Forbidden(NO_CREDENTIAL)
    if secret.object_id is None:
        return _owner(reader, secret.account, now_ms, "master")
    if secret.expires_at is not None and secret.expires_at <= now_ms:
        raise Forbidden(EXPIRED)
    found = reader.object(PREFIXES[secret.object_id[0]], secret.object_id)
    if found is None:
        raise Forbidden(NO_CREDENTIAL)
    known = Credential(
        secret.account, "token", token_id=found.id, expires_at=secret.expires_at, at_ms=now_ms
    )
    if found.kind == "token":
        grants = grants_of(found.doc["paths"], implied=("read",))
        return replace(known, grants=grants, device_id=found.state.get("deviceId"))
    if not provisioning:
        raise Forbidden(FOR_PROVISIONING_ALONE)
    return replace(known, kind="provisioning")


def credential_of(reader: Reader, account: Account, now_ms: int) -> Credential:
    """The rights of an account's owner, for what the server does in its name.

    Tracks, tasks and scripts run with them. They hold for *now_ms* (ms since 1970 UTC): whoever
    keeps one asks again after a while, since Shares come and go.
    """
    return _owner(reader, account, now_ms, "identity")


def _owner(
    reader: Reader, account: Account, now_ms: int, kind: Literal["master", "identity"]
) -> Credential:
    shares = reader.shares_to(account.identity_id)
    grants = tuple(
        grant
        for share in shares
        if is_live(share.doc, now_ms)
        for grant in grants_of(share.doc["paths"])
    )
    return Credential(account, kind, grants, at_ms=now_ms)


def grants_of(
    paths: Mapping[str, Mapping[str, Any]], *, implied: Iterable[Action] = ()
) -> tuple[Grant, ...]:
    """The ``paths`` of a Token or Share as grants; *implied* flags hold at each of them."""
    return tuple(
        Grant(
            path,
            frozenset(implied)
            | {flag for flag in _FLAGS if flags.get(flag)}
            | frozenset(_ADMINISTER if flags.get("administer") else ()),
        )
        for path, flags in paths.items()
    )


def expiry_of(doc: Mapping[str, Any]) -> int | None:
    """When a Token or Share stops working, in ms since 1970 UTC; None for never.

    A ``duration`` of 0 is none (1.9).
    """
    duration = doc.get("duration")
    return int(doc["creationDate"]) + int(duration) if duration else None


def is_live(doc: Mapping[str, Any], now_ms: int) -> bool:
    """Whether a Token or Share has not expired."""
    expires_at = expiry_of(doc)
    return expires_at is None or expires_at > now_ms


def may(credential: Credential, action: Action, path: str, *, public: bool = False) -> Verdict:
    """Whether *credential* allows *action* on the Flow at *path*: the one place that decides.

    Args:
        credential: who asks.
        action: what for.
        path: the normalised path of the Flow, existing or to be made.
        public: whether the Flow there is public: any account may then read it and its Drops.

    Returns:
        a verdict that is true or tells the missing right and the path.
    """
    if credential.is_owner:
        if covers(f"/{credential.account.name}", path):
            return _ALLOWED
        if public and action in ("read", "dropRead"):
            return _ALLOWED
    if any(action in grant.flags and covers(grant.path, path) for grant in credential.grants):
        return _ALLOWED
    whose = f"the account {credential.account.name}" if credential.is_owner else "this Token"
    return Verdict(False, f"path: {whose} has no right {action} at {path}")


def covers(prefix: str, path: str) -> bool:
    """Whether *path* is *prefix* or below it; by whole segments, so /a/b does not cover /a/bc."""
    return path == prefix or path.startswith(f"{prefix}/")


def check_account_name(name: str) -> str:
    """*name*, if an account may have it: it is the first segment of the account's paths.

    Raises:
        SettingsError: it cannot be such a segment.
    """
    if not _ACCOUNT_NAME.fullmatch(name) or not name.strip("."):
        raise SettingsError(
            f"{name!r} cannot be the name of an account",
            hint="1 to 64 of the characters a-z, 0-9, '_', '-', '.', not only dots",
        )
    return name


def ensure_account(store: Store, name: str) -> tuple[Account, str | None]:
    """The account called *name*, made if there is none; the secret only if it was made now."""
    check_account_name(name)

    def work(writer: Writer) -> tuple[Account, str | None]:
        account = writer.account(name)
        if account is not None:
            return account, None
        secret = mint_secret()
        return writer.create_account(name, hash_secret(secret)), secret

    found = store.read(lambda reader: reader.account(name))
    return (found, None) if found is not None else store.write(work)


def rotate(store: Store, name: str) -> str:
    """A new master token for the account *name*; the old one stops working at once.

    Raises:
        SettingsError: there is no such account.
    """
    secret = mint_secret()

    def work(writer: Writer) -> None:
        if writer.account(name) is None:
            raise SettingsError(f"there is no account {name!r} here")
        writer.set_secret(name, hash_secret(secret))

    store.write(work)
    return secret
