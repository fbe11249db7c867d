"""Stored objects as a caller may see them: typed or plain, whole or in part, with references.

Source: protocol 1.8 (identities of others), 2.3 (what comes back), 3.6 (``only``, references).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowkit.protocol.resources import is_id
from flowkit.query.meaning import ABSENT, resolve
from flowkit.query.nodes import Path
from flowkit.server.access import is_readable
from flowkit.server.auth import Credential
from flowkit.server.elements import show_typed
from flowkit.server.store.base import Reader, StoredDrop

__all__ = ["only_members", "references", "referring", "shown_drop", "shown_identity"]

_SHOWN_TO_ALL = ("id", "name", "icon")
_REFERRING = ("creatorId", "lastEditorId", "flowId")


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
    return {name: doc[name] for name in _REFERRING if name in doc}


def references(
    reader: Reader, who: Credential, docs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The objects that *docs* refer to, by id, each as *who* may see it (3.6)."""
    wanted = {doc[name] for doc in docs for name in _REFERRING if is_id(doc.get(name))}
    found: dict[str, Any] = {}
    for identity_id in sorted(each for each in wanted if each.startswith("i")):
        identity = reader.identity(identity_id)
        if identity is not None:
            found[identity_id] = shown_identity(identity, who)
    flows = reader.flows(sorted(each for each in wanted if each.startswith("f")))
    found.update({key: flow.doc for key, flow in flows.items() if is_readable(flow, who)})
    return found
