"""Which Tokens a Device has, and taking them from it.

Whoever deletes a Device, or one of its Tokens, means all of it: with another Token, or with an
operation of provisioning that was approved, the device would be back at once.

Source: protocol 1.11; ``docs/reference/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Iterator

from flowkit.server.announce import announce
from flowkit.server.auth import Credential
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = [
    "GRACE",
    "delete_token",
    "end_registration",
    "operations_of",
    "token_ids",
    "tokens_of",
]

GRACE = "graceTokenId"
"""Where the state of a Device has the id of the Token before its own."""


def token_ids(device: StoredObject) -> list[str]:
    """The ids of the Tokens of a Device: its own, and the one before while it is not over."""
    ids = (device.doc.get("tokenId"), device.state.get(GRACE))
    return [each for each in ids if each]


def tokens_of(reader: Reader, device: StoredObject) -> Iterator[StoredObject]:
    """The Tokens of a Device that are there, expired ones included."""
    for token_id in token_ids(device):
        token = reader.object("token", token_id)
        if token is not None:
            yield token


def delete_token(writer: Writer, who: Credential, token: StoredObject) -> None:
    """Remove a Token and tell the inbox."""
    announce(writer, who, "DELETE", "token", token.doc)
    writer.delete_object(token)


def end_registration(writer: Writer, who: Credential, device: StoredObject) -> None:
    """Take everything from a Device that it could use, or become itself again with."""
    for token in tokens_of(writer, device):
        delete_token(writer, who, token)
    named = str(device.doc.get("deviceId", ""))
    for each in writer.fleet.leading_to(device.account, device.id, named):
        found = writer.object("provisioning", each)
        if found is not None:
            announce(writer, who, "DELETE", "provisioning", found.doc)
            writer.delete_object(found)


def operations_of(reader: Reader, token: StoredObject) -> list[StoredObject]:
    """The operations of provisioning that a provisioning token began."""
    found = reader.objects("provisioning", account=token.account)
    return [each for each in found if each.doc["provisioningTokenId"] == token.id]
