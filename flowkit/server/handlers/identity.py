"""Identities: what is particular about them.

An account finds itself; others it may look up by id, and sees of them ``id``, ``name`` and
``icon``. The master token is kept only as a digest, so ``masterToken`` never stands in an answer.

Source: protocol 1.8 (Identity), 3.5 (routes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowkit.errors import Forbidden
from flowkit.protocol.resources import RESOURCES
from flowkit.query.params import Query
from flowkit.server.auth import Credential
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.objects import look_at
from flowkit.server.handlers.verbs import Looked, Noun, Show
from flowkit.server.showing import shown_identity
from flowkit.server.store.base import Reader, StoredObject, Writer

__all__ = ["IDENTITY"]


def _seen(reader: Reader, _who: Credential, ids: Sequence[str]) -> dict[str, StoredObject]:
    found = {key: reader.identity(key) for key in ids}
    return {
        key: StoredObject("identity", doc["name"], doc)
        for key, doc in found.items()
        if doc is not None
    }


def _look(call: Call, query: Query, reader: Reader, who: Credential, show: Show) -> Looked:
    """The caller's own, as an array of at most one."""
    own = _seen(reader, who, [who.account.identity_id]).values()
    return look_at([_shown(reader, who, one, call) for one in own], call, query, "identity", show)


def _shown(_reader: Reader, who: Credential, found: StoredObject, _call: Call) -> dict[str, Any]:
    return shown_identity(found.doc, who)


def _check(_call: Call, _checked: Checked) -> None:
    """Nothing more to look at than the table of members."""


def _create(_writer: Writer, _who: Credential, _call: Call, _checked: Checked) -> StoredObject:
    raise Forbidden("Accounts are made and removed by the server's administrator only")


def _demand_change(_reader: Reader, who: Credential, found: StoredObject) -> None:
    if found.id != who.account.identity_id:
        raise Forbidden("The identity belongs to another account")


def _change(
    writer: Writer, _who: Credential, found: StoredObject, changes: Mapping[str, Any], _call: Call
) -> StoredObject:
    doc = writer.update_identity(found.id, changes, editor=found.id)
    return StoredObject("identity", found.account, doc)


def _remove(_writer: Writer, _who: Credential, _found: StoredObject) -> None:
    raise Forbidden("Accounts are made and removed by the server's administrator only")


IDENTITY = Noun(
    resource=RESOURCES["identity"],
    seen=_seen,
    look=_look,
    shown=_shown,
    check=_check,
    create=_create,
    demand_change=_demand_change,
    change=_change,
    remove=_remove,
    is_announced=False,
)
"""The noun of Identities."""
