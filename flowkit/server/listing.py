"""A find over documents in Python: filter, order and page.

Some members of objects are computed at answer time (``expiresInMs``, ``timeSinceLastSeen``), so SQL
could not say their filters. The order is the one that SQL gives to Drops: numbers, strings, false,
true, everything else; what has no such member comes last in both directions; ties go by id.

``look`` is for few documents that are at hand; its parts, ``judge`` and ``page``, also serve where
there are too many to hold (``handlers/sifting.py``).

Source: protocol 3.6 (order of types, ties, ``start`` and ``limit``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from flowkit.query import meaning
from flowkit.query.match import predicate
from flowkit.query.nodes import Filter, Path
from flowkit.query.params import Query
from flowkit.query.places import Places

__all__ = ["Key", "Judge", "judge", "look", "members_of", "page"]

Search = Callable[[Any, str], bool]

Key = tuple[tuple[Any, ...], str]
"""What an object is ordered by: the rank of its sort member, empty for none, and its id."""

Judge = Callable[[dict[str, Any]], Key | None]
"""The key of a document that is asked for, None for one that is not."""


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
    judged = judge(
        query.filter, query.sort_path, resource, now_ms=now_ms, places=places, search=search
    )
    found: dict[str, dict[str, Any]] = {}
    keys: list[Key] = []
    for doc in docs:
        key = judged(doc)
        if key is not None:
            keys.append(key)
            found[key[1]] = doc
    return [found[each] for each in page(keys, query)]


def judge(
    asked: Filter | None,
    sort: Path,
    resource: str,
    *,
    now_ms: int,
    places: Places | None,
    search: Search,
) -> Judge:
    """A function that judges documents, each by itself; *asked* None takes all of them.

    The other arguments are as in ``look``; *sort* is the path of the member to sort on.
    """
    passes = None if asked is None else predicate(asked, resource)
    path = meaning.resolve(sort, resource)

    def judged(doc: dict[str, Any]) -> Key | None:
        if passes is not None and not passes(doc, now_ms, places, None, search):
            return None
        return meaning.rank(_at(doc, path)), str(doc["id"])

    return judged


def page(keys: Sequence[Key], query: Query) -> list[str]:
    """The ids of the objects that a find answers, in its order, of the keys of all it found."""
    down = query.order == "desc"
    present = sorted((key for key in keys if key[0]), reverse=down)
    absent = sorted((key for key in keys if not key[0]), reverse=down)
    ordered = (*present, *absent)
    return [object_id for _, object_id in ordered[query.start : query.start + query.limit]]


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
        elif isinstance(doc, list) and _is_in(doc, segment):
            doc = doc[int(segment)]
        else:
            return None
    return doc


def _is_in(entries: Sequence[Any], segment: str) -> bool:
    # More digits than any array has entries: int() refuses thousands of them.
    return meaning.is_index(segment) and len(segment) < 19 and int(segment) < len(entries)
