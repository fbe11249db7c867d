"""Who is asking, and what they may do: minting, hashing and the one function that decides.

A secret is shown once, when it is made, and kept only as a SHA-256 digest. A plain fast hash is
right here, unlike for passwords: a secret is 32 random letters and digits (190 bits), so there is
nothing to guess that salt or slowness could protect, and every request is looked up by it. Looking
up by digest also means that no comparison's duration tells anything about a secret.

Source: protocol 3.1, 3.4 (403 and 404), 8 (credentials and permissions), 1.3 (whole segments).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass
from typing import Literal

from flowkit.errors import Forbidden, SettingsError
from flowkit.server.store.base import Account, Reader, Store, Writer

__all__ = [
    "Action",
    "Credential",
    "Verdict",
    "authenticate",
    "check_account_name",
    "covers",
    "ensure_account",
    "hash_secret",
    "may",
    "mint_secret",
    "rotate",
]

Action = Literal["read", "write", "dropRead", "dropWrite"]
"""The flags of 8.2; ``read`` and ``write`` are about Flows and the like, the others about Drops."""

_ALPHABET = string.ascii_letters + string.digits
_MASTER_TOKEN_CHARS = 32
_ACCOUNT_NAME = re.compile(r"[a-z0-9_.-]{1,64}")

NO_CREDENTIAL = "X-Auth-Token: is missing or not a token of this account"
"""One sentence for a missing, an unknown and a foreign token: which it was is nobody's business."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The right that came with a request.

    Attributes:
        account: whose it is.
        kind: ``master`` allows everything that the account may do.
    """

    account: Account
    kind: Literal["master"] = "master"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is allowed and, if not, one sentence that says why not."""

    allowed: bool
    why_not: str = ""

    def __bool__(self) -> bool:
        return self.allowed


def mint_secret() -> str:
    """A new master token: 32 random letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_MASTER_TOKEN_CHARS))


def hash_secret(secret: str) -> bytes:
    """The digest under which a secret is kept and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def authenticate(reader: Reader, token: str | None, account: str) -> Credential:
    """The credential behind *token*, for a request about *account*.

    Raises:
        Forbidden: there is no such token, or it belongs to another account.
    """
    found = reader.credential(hash_secret(token)) if token else None
    if found is None or found.name != account:
        raise Forbidden(NO_CREDENTIAL)
    return Credential(found)


def may(credential: Credential, action: Action, path: str, *, public: bool = False) -> Verdict:
    """Whether *credential* allows *action* on the Flow at *path*: the one place that decides.

    Args:
        credential: who asks.
        action: what for.
        path: the normalised path of the Flow, existing or to be made.
        public: whether the Flow there is public: any account may then read it and its Drops.
    """
    name = credential.account.name
    if covers(f"/{name}", path):
        return Verdict(True)
    if public and action in ("read", "dropRead"):
        return Verdict(True)
    return Verdict(False, f"path: {path} is not in the namespace of the account {name}")


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
