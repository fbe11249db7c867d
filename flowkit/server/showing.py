"""Stored objects as a caller may see them: typed or plain, whole or in part, with references.

An object that others refer to is shown as its caller could read it, without what costs a look-up
of its own (groups, shares) and without secrets: a ``tokenString`` is answered only to who asks for
the Token itself.

Source: protocol 1.8 (identities of others), 2.3 (what comes back), 3.6 (``only``, references), 8.2
(what a Token sees).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from flowkit.protocol.resources import PREFIXES, is_id
from flowkit.query.meaning import ABSENT, resolve
from flowkit.query.nodes import Path
from flowkit.server.access import is_readable
from flowkit.server.auth import Credential, is_live, may
from flowkit.server.elements import show_typed
from flowkit.server.store.base import Reader, StoredDrop

__all__ = [
    "REFERRING",
    "drop_told",
    "only_members",
    "references",
    "referring",
    "shown_drop",
    "shown_identity",
]

_SHOWN_TO_ALL = ("id", "name", "icon")
_HIDDEN_FROM_TOKENS = ("email", "shares")
_KEPT_BY_SERVER = ("id", "creationDate", "creatorId", "lastEditDate", "lastEditorId")

_IDS = ("creatorId", "lastEditorId", "flowId", "tokenId", "issuedTo", "issuedBy", "reportFlowId")
_ID_LISTS = ("memberIds",)
_PATHS = ("source", "destination")
REFERRING = (*_IDS, *_ID_LISTS, *_PATHS)
"""The members that name other objects: by an id, by a list of ids, by the path of a Flow."""


def shown_drop(drop: StoredDrop, *, typed: bool, only: Sequence[str] | None = None) -> Any:
    """A Drop as it stands in an answer."""
    doc = only_members(drop.doc, only)
    return (
        doc | {"elems": show_typed(doc["elems"], drop.types)} if typed and "elems" in doc else doc
    )


def drop_told(drop: StoredDrop, who: Credential, said: Container[str]) -> StoredDrop:
    """A Drop that *who* has changed, without what it neither *said* nor may read.

    The answer to a change holds the whole Drop; with ``dropWrite`` alone that would be a way to
    read what others wrote into it.
    """
    if may(who, "dropRead", drop.doc["path"]):
        return drop
    ours = (*_KEPT_BY_SERVER, "flowId", "path", "version")
    doc = {name: value for name, value in drop.doc.items() if name in ours or name in said}
    return StoredDrop(doc, drop.types if "elems" in said else {})


def shown_identity(identity: Mapping[str, Any], who: Credential) -> dict[str, Any]:
    """An Identity: whole to its owner, to others without what is theirs alone."""
    if identity["id"] != who.account.identity_id:
        return {name: identity[name] for name in _SHOWN_TO_ALL if name in identity}
    hidden = () if who.is_owner else _HIDDEN_FROM_TOKENS
    return {name: value for name, value in identity.items() if name not in hidden}


def only_members(
    doc: dict[str, Any], only: Sequence[str] | None, resource: str = "drop"
) -> dict[str, Any]:
    """The members of *doc* that *only* names, in the order of *doc*, and its ``id``; None: all.

    Names are read as in filters: on a drop a bare name is an element (4.2), and a name that meets
    a list goes on in every entry that is a map. What such a list does not hold is left out of it.
    """
    if only is None:
        return doc
    ways = [resolve(tuple(name.split(".")), resource) for name in only]
    shown = _part(doc, [("id",), *ways])
    return shown if isinstance(shown, dict) else {}


def _part(value: Any, ways: Sequence[Path]) -> Any:
    """The parts of *value* at *ways*; ``ABSENT`` if it has none of them."""
    if () in ways:
        return value
    if isinstance(value, list):
        entries = [_part(entry, ways) for entry in value if isinstance(entry, dict)]
        return [entry for entry in entries if entry is not ABSENT] or ABSENT
    if not isinstance(value, dict):
        return ABSENT
    below: dict[str, list[Path]] = {}
    for way in ways:
        below.setdefault(way[0], []).append(way[1:])
    parts = {name: _part(part, below[name]) for name, part in value.items() if name in below}
    return {name: part for name, part in parts.items() if part is not ABSENT} or ABSENT


def referring(doc: Mapping[str, Any]) -> dict[str, Any]:
    """What ``references`` looks at of *doc*; enough to keep where a find holds many documents."""
    return {name: doc[name] for name in REFERRING if name in doc}


def references(
    reader: Reader, who: Credential, docs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The objects that *docs* refer to, by id, each as *who* may see it (3.6)."""
    wanted: set[str] = set()
    paths: set[str] = set()
    for doc in docs:
        wanted.update(doc[name] for name in _IDS if name in doc)
        wanted.update(each for name in _ID_LISTS for each in doc.get(name, ()))
        for name in _PATHS:
            named = doc.get(name, ())
            paths.update([named] if isinstance(named, str) else named)
    found: dict[str, Any] = {}
    for key in sorted(each for each in wanted if is_id(each)):
        shown = _referred(reader, who, PREFIXES.get(key[0], ""), key)
        if shown is not None:
            found[key] = shown
    flow_ids = sorted(each for each in wanted if is_id(each) and each[0] == "f")
    flows = [*reader.flows(flow_ids).values(), *(reader.flow_at(path) for path in sorted(paths))]
    for flow in flows:
        if flow is not None and is_readable(flow, who):
            found[flow.id] = flow.doc
    return found


def _referred(reader: Reader, who: Credential, kind: str, key: str) -> dict[str, Any] | None:
    """An Identity, Group or Token that a document names, None for what *who* may not see."""
    if kind == "identity":
        identity = reader.identity(key)
        is_seen = who.is_owner or key == who.account.identity_id
        return shown_identity(identity, who) if identity is not None and is_seen else None
    if kind not in ("group", "token"):
        return None
    found = reader.object(kind, key)
    if found is None:
        return None
    is_own = who.is_owner and found.account == who.account.name
    if kind == "token":
        is_seen = (is_own or key == who.token_id) and is_live(found.doc, who.at_ms)
    else:
        is_seen = is_own or (who.is_owner and who.account.identity_id in found.doc["memberIds"])
    return found.doc if is_seen else None
