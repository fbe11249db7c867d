"""What a find is asked with: filters joined to one text, ids told from filters, and the endless
find.

Rules:

* Filters given to one find are joined with AND. A raw text that is joined to anything is put into
  parentheses, and parsed first, so that none can break out of its own.
* One raw text alone goes out as it was written; the server judges it.

Source: protocol 3.6 (find), 12 (pagination), 13.1, 13.2 (defects 24 to 28).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flowkit import limits
from flowkit.client.credentials import Token
from flowkit.errors import UsageError
from flowkit.protocol.resources import normal_path
from flowkit.query.build import as_filter, mem
from flowkit.query.nodes import Everything, Filter

__all__ = [
    "checked_walk",
    "filter_text",
    "flow_place",
    "listed_ids",
    "one_id",
    "present",
    "walk",
]


def filter_text(*filters: Any) -> str | None:
    """The text of all *filters* joined with AND, or None for no condition.

    Each is a ``Filter``, a raw text, or a list or tuple of these; None and the empty filter count
    as nothing.

    Raises:
        FilterError: something else was given (a bool, say), or a raw text that is joined is no
        filter.
    """
    parts = [part for one in filters for part in _flat(one)]
    if not parts:
        return None
    if len(parts) == 1:
        return str(parts[0])
    for part in parts:
        if isinstance(part, str):
            Filter.parse(part)
    return " && ".join(f"({part})" for part in parts)


def present(filters: tuple[Any, ...]) -> tuple[Any, ...]:
    """*filters*, as they were given by position.

    Raises:
        FilterError: one of them is None: a missing id or filter must not come to find everything.
    """
    for one in filters:
        if one is None:
            as_filter(one)
    return filters


def _flat(given: Any) -> Iterator[Filter | str]:
    if given is None or isinstance(given, Everything):
        return
    if isinstance(given, list | tuple):
        for one in given:
            yield from _flat(one)
    elif isinstance(given, str):
        if given.strip():
            yield given
    else:
        yield as_filter(given)


_NOT_IN_IDS = frozenset(" /?#%'\"()<>=&|")


def one_id(given: Any) -> str:
    """The id that *given* is, or that the object *given* has.

    Raises:
        UsageError: it is neither, or a text that cannot be an id (a path, a raw filter).
    """
    if isinstance(given, Mapping):
        if given.get("id") is None:
            raise UsageError("the model has no id", hint="create it, or read it first")
        given = given["id"]
    if not isinstance(given, str):
        raise UsageError(f"{given!r} is not an id", hint="an id is text")
    if given.startswith("/"):
        raise UsageError(
            f"{given!r} is a path, not an id", hint=f"find(mem.path == {given!r}), api.drop(path)"
        )
    if given in ("", ".", "..") or not given.isprintable() or not _NOT_IN_IDS.isdisjoint(given):
        raise UsageError(
            f"{given!r} is not an id",
            hint="a raw filter goes as find(filter='…') or find_many('…')",
        )
    return given


def listed_ids(given: Any) -> list[str]:
    """The ids of an iterable of ids or of objects with ids.

    Raises:
        UsageError: it is no such iterable, or one of its entries is no id.
    """
    if isinstance(given, str | bytes | Mapping | Token) or not isinstance(given, Iterable):
        raise UsageError(
            f"ids are an iterable of ids, not a {type(given).__name__}", hint="read(id) reads one"
        )
    entries = list(given)
    if any(isinstance(entry, Filter) for entry in entries):
        raise UsageError("a list of filters was given as ids", hint="find(*filters)")
    return [one_id(entry) for entry in entries]


def flow_place(flow: Any) -> tuple[str | None, str | None]:
    """The id or the path of a flow, which is either or the flow itself; one of the two is None.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(flow, Mapping) and flow.get("id") is None and flow.get("path") is not None:
        flow = flow["path"]
    if not isinstance(flow, str) or not flow.startswith("/"):
        return one_id(flow), None
    path = normal_path(flow)
    if path is None:
        raise UsageError(f"{flow!r} is not the path of a flow", hint="write /account/name/…")
    return None, path


def walk(
    find: Callable[..., list[dict[str, Any]]],
    condition: str | None,
    *,
    page: int,
    limit: int | None,
    order: str,
    params: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Every object that ``find(filter, **params)`` can give, each once, in order of id.

    Pages are bounded by the last id seen, never by a count: an id does not change and is never
    given again, so an object that is there and matches throughout is in exactly one page, whatever
    is inserted, evicted or deleted meanwhile. Ascending, the walk ends at the newest object of its
    beginning; what is created later would otherwise keep it going for ever. The end is an empty
    page, so a server that answers fewer than were asked for cuts nothing off.
    """
    ask = {**params, "sort": "id", "order": order}
    bound: Filter | None = None
    top = None
    if order == "asc":
        newest = find(
            filter=condition, **{**params, "only": "id", "sort": "id", "order": "desc", "limit": 1}
        )
        if not newest:
            return
        top = newest[0]["id"]
        bound = mem.id <= top
    left = limit
    while left is None or left > 0:
        size = page if left is None else min(page, left)
        found = find(filter=filter_text(condition, bound), **ask, limit=size) or []
        yield from found
        if not found or found[-1]["id"] == top:
            return
        last = found[-1]["id"]
        bound = (mem.id > last) & (mem.id <= top) if order == "asc" else mem.id < last
        left = None if left is None else left - len(found)


def checked_walk(page: int, limit: int | None, order: str, params: Mapping[str, Any]) -> None:
    """Refuse what a walk cannot do.

    Raises:
        UsageError: a bad *page*, *limit* or *order*, or a parameter that belongs to the walk
        itself.
    """
    for name, value, low in (("page", page, 1), ("limit", limit, 0)):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and (not is_whole or value < low):
            raise UsageError(f"{name}={value!r} is not a whole number of at least {low}")
    if page > limits.find_limit_max:
        raise UsageError(f"page={page} is more than a find may answer ({limits.find_limit_max})")
    if order not in ("asc", "desc"):
        raise UsageError(f"order={order!r} is neither 'asc' nor 'desc'")
    for name in ("sort", "start", "skip", "refs", "envelope"):
        if params.get(name) is not None:
            raise UsageError(
                f"find_iter takes no {name}=",
                hint="it goes in order of id, page by page; find() has sort, start and refs",
            )
