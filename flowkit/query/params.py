"""The rest of a query: what to find, how much, in which order, and which members to show.

``Query.from_wire`` reads the parameters of a URL or of a JSON body (protocol 3.6) and reports every
fault at once, one sentence each; ``to_wire`` writes them again, leaving out what has its default.
``skip`` is another name of ``start``. Booleans are ``0 1 true false`` in any case. Parameters that
are not known are no fault; their names are kept in ``unknown``, so that an answer can tell of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, FilterError, FilterSyntaxError, LimitError
from flowkit.query import normal
from flowkit.query.nodes import Everything, Filter, Path
from flowkit.query.parse import parse
from flowkit.query.render import render

__all__ = ["Query", "flag"]

_BOOLEANS = {"0": False, "false": False, "1": True, "true": True}
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,20}\s*", re.ASCII)


class _Fault(Exception):
    """One parameter is wrong; its text is the sentence for the caller."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a find or read was asked for.

    Attributes:
        filter: which objects; ``Everything()`` for all.
        start: index of the first result.
        limit: most results; 0 answers none.
        sort: the member to sort on, its segments joined by dots; see ``sort_path``.
        order: ``"asc"`` or ``"desc"``.
        only: members to show, dotted; None for all.
        refs: whether ``head.references`` is filled.
        hints: whether elements show their types; None leaves it to the version of the protocol.
        path: path of the Flow whose Drops are asked for.
        explain: whether the answer tells how the query would be run.
        positions: whether ``head.position`` is filled.
        pretty: whether the answer is indented.
        unknown: names of parameters that are not known.
    """

    filter: Filter = field(default_factory=Everything)
    start: int = 0
    limit: int = limits.find_limit_default
    sort: str = "creationDate"
    order: str = "desc"
    only: tuple[str, ...] | None = None
    refs: bool = False
    hints: bool | None = None
    path: str | None = None
    explain: bool = False
    positions: bool = False
    pretty: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def sort_path(self) -> Path:
        """The member to sort on as a path."""
        return normal.dotted(self.sort)

    @classmethod
    def from_wire(cls, params: Mapping[str, Any]) -> Query:
        """Read parameters as they come: texts from a URL, any JSON values from a body.

        A parameter that is null or an empty text counts as not given.

        Raises:
            BadRequest: with one sentence per fault.
        """
        found: dict[str, Any] = {}
        faults: list[str] = []
        unknown = tuple(str(name) for name in params if name not in _READERS)
        for name, (member, read) in _READERS.items():
            value = params.get(name)
            if value is None or value == "":
                continue
            try:
                read_value = read(name, value)
            except _Fault as fault:
                faults.append(str(fault))
                continue
            if found.setdefault(member, read_value) != read_value:
                faults.append("skip and start are the same and differ here")
        if faults:
            raise BadRequest(*faults)
        return cls(**found, unknown=unknown)

    def to_wire(self) -> dict[str, str]:
        """The parameters of a URL that ``from_wire`` reads as this query, defaults left out.

        Raises:
            FilterError: a value of the filter is not known yet.
        """
        written: dict[str, str] = {}
        for name, (member, _) in _READERS.items():
            value = getattr(self, member)
            if name == "skip" or value == _DEFAULTS[member]:
                continue
            written[name] = _WRITERS.get(member, _flag_text)(value)
        return written


def _filter(name: str, value: Any) -> Filter:
    if isinstance(value, Filter):
        return value
    if not isinstance(value, str):
        raise _Fault(f"{name}: a text is needed, not {normal.shown(value)}")
    try:
        return parse(value)
    except FilterSyntaxError as error:
        raise _Fault(f"{name}: {error.summary}") from None
    except (FilterError, LimitError) as error:
        raise _Fault(f"{name}: {error}") from None


def _count(name: str, value: Any, most: int) -> int:
    count = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
    if type(count) is not int or count < 0:
        raise _Fault(f"{name}: a whole number from 0 is needed, not {normal.shown(value)}")
    if count > most:
        raise _Fault(f"{name}: {normal.shown(count)} is more than the most allowed, {most}")
    return count


def _start(name: str, value: Any) -> int:
    return _count(name, value, limits.integer_max)


def _limit(name: str, value: Any) -> int:
    return _count(name, value, limits.find_limit_max)


def _member(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault(f"{name}: the name of a member is needed, not {normal.shown(value)}")
    try:
        return ".".join(normal.dotted(value.strip()))
    except FilterError as error:
        raise _Fault(f"{name}: {error.problem}") from None


def _sort(name: str, value: Any) -> str:
    if isinstance(value, str) and "," in value:
        raise _Fault(f"{name}: one member only, not {normal.shown(value)}")
    return _member(name, value)


def _order(name: str, value: Any) -> str:
    order = value.strip().lower() if isinstance(value, str) else value
    if order == "geo":
        raise _Fault(f"{name}: sorting by distance (geo) is not available, use asc or desc")
    if order not in ("asc", "desc"):
        raise _Fault(f"{name}: asc or desc is needed, not {normal.shown(value)}")
    return str(order)


def _only(name: str, value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, Sequence):
        raise _Fault(f"{name}: names with commas between are needed, not {normal.shown(value)}")
    return tuple(dict.fromkeys(_member(name, part) for part in value)) or None


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, (bool, int, str)):
        found = _BOOLEANS.get(str(value).strip().lower())
        if found is not None:
            return found
    raise _Fault(f"{name}: 0, 1, true or false is needed, not {normal.shown(value)}")


def flag(name: str, value: Any) -> bool:
    """The boolean parameter *name* alone; null or an empty text counts as not given: false.

    Raises:
        BadRequest: it is no boolean (3.6).
    """
    try:
        return value is not None and value != "" and _flag(name, value)
    except _Fault as fault:
        raise BadRequest(str(fault)) from None


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault(f"{name}: a path is needed, not {normal.shown(value)}")
    return value


def _flag_text(value: object) -> str:
    return "1" if value else "0"


_READERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "filter": ("filter", _filter),
    "start": ("start", _start),
    "skip": ("start", _start),
    "limit": ("limit", _limit),
    "sort": ("sort", _sort),
    "order": ("order", _order),
    "only": ("only", _only),
    "refs": ("refs", _flag),
    "hints": ("hints", _flag),
    "path": ("path", _path),
    "explain": ("explain", _flag),
    "positions": ("positions", _flag),
    "pretty": ("pretty", _flag),
}
"""Each parameter, the member of ``Query`` that it sets, and its reader."""

_WRITERS: dict[str, Callable[[Any], str]] = {
    "filter": render,
    "start": str,
    "limit": str,
    "sort": str,
    "order": str,
    "only": ",".join,
    "path": str,
}
"""Members of ``Query`` that are not flags, and how each is written."""

_PLAIN = Query()
_DEFAULTS = {member: getattr(_PLAIN, member) for member, _ in _READERS.values()}
