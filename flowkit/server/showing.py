"""Stored objects as a caller may see them: typed or plain, whole or in part, with references.

Source: protocol 1.8 (identities of others), 2.3 (what comes back), 3.6 (``only``, references).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowkit.protocol.resources import is_id
from flowkit.server.access import is_readable
from flowkit.server.auth import Credential
from flowkit.server.elements import show_typed
from flowkit.server.store.base import Reader, StoredDrop

__all__ = ["only_members", "references", "shown_drop", "shown_identity"]

_SHOWN_TO_ALL = ("id", "name", "icon")


def shown_drop(drop: StoredDrop, *, typed: bool, only: Sequence[str] | None = None) -> Any:
    """A Drop as it stands in an answer."""
    doc = only_members(drop.doc, only)
    return (
        doc | {"elems": show_typed(doc["elems"], drop.types)} if typed and "elems" in doc else doc
    )


def shown_identity(identity: Mapping[str, Any], who: Credential) -> dict[str, Any]:
    """An Identity: whole to its owner, to others without what is theirs alone."""
    if identity["id"] == who.account.identity_id:
        return dict(identity)
    return {name: identity[name] for name in _SHOWN_TO_ALL if name in identity}


def only_members(doc: dict[str, Any], only: Sequence[str] | None) -> dict[str, Any]:
    """The named members of *doc* and its ``id``; a dotted name reaches into maps."""
    if only is None:
        return doc
    kept: dict[str, Any] = {}
    for name in ("id", *only):
        if name in doc:
            kept[name] = doc[name]
        elif "." in name:
            _keep_part(doc, kept, name.split("."))
    return kept


def _keep_part(doc: dict[str, Any], kept: dict[str, Any], way: list[str]) -> None:
    """Copy what *way* leads to from *doc* into *kept*, with the maps around it."""
    value: Any = doc
    for name in way:
        if not isinstance(value, dict) or name not in value:
            return
        value = value[name]
    for at, name in enumerate(way[:-1]):
        inner = kept.get(name)
        if inner is _at(doc, way[: at + 1]):
            return  # the whole map is there already
        kept = kept.setdefault(name, {})
    kept[way[-1]] = value


def _at(doc: Any, way: list[str]) -> Any:
    for name in way:
        doc = doc[name]
    return doc


def references(
    reader: Reader, who: Credential, docs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The objects that *docs* refer to, by id, each as *who* may see it (3.6)."""
    wanted = {
        doc[name]
        for doc in docs
        for name in ("creatorId", "lastEditorId", "flowId")
        if is_id(doc.get(name))
    }
    found: dict[str, Any] = {}
    for identity_id in sorted(each for each in wanted if each.startswith("i")):
        identity = reader.identity(identity_id)
        if identity is not None:
            found[identity_id] = shown_identity(identity, who)
    flows = reader.flows(sorted(each for each in wanted if each.startswith("f")))
    found.update({key: flow.doc for key, flow in flows.items() if is_readable(flow, who)})
    return found
