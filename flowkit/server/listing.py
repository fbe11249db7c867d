"""A find over documents that are at hand: filter, order and page, in Python.

Objects other than Flows and Drops are few, and some of their members are computed at answer time
(``expiresInMs``, ``timeSinceLastSeen``), so SQL could not say their filters. The order is the one
that SQL gives to Drops: numbers, strings, false, true, everything else; what has no such member
comes last in both directions; ties go by id.

Source: protocol 3.6 (order of types, ties, ``start`` and ``limit``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flowkit.query import meaning
from flowkit.query.match import predicate
from flowkit.query.nodes import Filter, Path
from flowkit.query.params import Query
from flowkit.query.places import Places

__all__ = ["look", "members_of"]

Search = Callable[[Any, str], bool]


def look(
    docs: Iterable[dict[str, Any]],
    query: Query,
    resource: str,
    *,
    now_ms: int,
    places: Places | None,
    search: Search,
) -> list[dict[str, Any]]:
    """The documents that a find answers, in its order.

    Args:
        docs: what may be seen at all.
        query: its filter, sort, order, start and limit.
        resource: whose member names the filter uses.
        now_ms: the time of the request, in ms since 1970 UTC.
        places: the table of postal codes.
        search: runs one pattern, counting its time.
    """
    asked = predicate(query.filter, resource)
    found = [doc for doc in docs if asked(doc, now_ms, places, None, search)]
    path = meaning.resolve(query.sort_path, resource)
    keyed = [(meaning.rank(_at(doc, path)), str(doc["id"]), doc) for doc in found]
    down = query.order == "desc"
    present = sorted((one for one in keyed if one[0]), key=lambda one: one[:2], reverse=down)
    absent = sorted((one for one in keyed if not one[0]), key=lambda one: one[1], reverse=down)
    ordered = [doc for _, _, doc in (*present, *absent)]
    return ordered[query.start : query.start + query.limit]


def members_of(asked: Filter) -> Iterator[Path]:
    """The paths of all members that a filter names."""
    for rule in asked.walk():
        for path in (getattr(rule, "path", None), getattr(rule, "other", None)):
            if path:
                yield path


def _at(doc: Any, path: Path) -> Any:
    """The value at *path*, None where there is none."""
    for segment in path:
        if isinstance(doc, dict):
            doc = doc.get(segment)
        elif isinstance(doc, list) and meaning.is_index(segment) and int(segment) < len(doc):
            doc = doc[int(segment)]
        else:
            return None
    return doc
