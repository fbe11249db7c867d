"""M: a model being edited, and the diff that an update sends.  P: request parameters as a value.

``M`` is a mapping. Every change made through it is seen, at any depth: a value that could be
changed in place (``elems``, ``location``, a list) is copied when it is first read, and compared
with the original when the diff is asked for. The model it was made from is never touched.

Source: protocol 1.4 (``elems`` are replaced whole), 13.1, 13.2 (defects 29, 31, 32).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from flowkit.client.arguments import is_thunk, plain
from flowkit.errors import UsageError

__all__ = ["M", "P"]


class M(MutableMapping[str, Any]):
    """A model with changes: ``M(flow, capacity=5)``, ``m["elems"]["temp"] = 21``.

    ``service.update(m)`` sends only the changed top-level members (``elems`` whole when anything
    inside changed, a deleted member as null) and ``service.save(m)`` creates it when it has no id.

    Args:
        model: the object as it was read; it is not changed and later changes to it are not seen.
            A thunk is not waited for until the model is read or sent.
        changes: first changes, by member.
    """

    __slots__ = ("_before", "_changes", "_now")

    _before: Any
    _now: dict[str, Any]

    def __init__(self, model: Mapping[str, Any], /, **changes: Any) -> None:
        self._changes: dict[str, Any] | None = changes
        self._before = model
        if not is_thunk(model):
            self._open()

    def _open(self) -> dict[str, Any]:
        """The present members; reads the model first, if that has not been done."""
        if self._changes is not None:
            model = plain(self._before)
            if not isinstance(model, Mapping):
                raise UsageError(f"a model is a mapping, not {type(model).__name__}")
            self._before = dict(model)
            self._now = {**self._before, **self._changes}
            self._changes = None
        return self._now

    def __flowkit_map__(self, act: Callable[[Any], Any]) -> M:
        """The same model with *act* applied to every value that it holds."""
        if self._changes is not None:
            return M(act(self._before), **{name: act(new) for name, new in self._changes.items()})
        other = M({})
        other._before = {name: act(value) for name, value in self._before.items()}
        other._now = {name: act(value) for name, value in self._now.items()}
        return other

    def __getitem__(self, member: str) -> Any:
        value = self._open()[member]
        # A value that could be changed in place is handed out as a copy of our own, once.
        if isinstance(value, dict | list) and value is self._before.get(member):
            value = self._now[member] = copy.deepcopy(value)
        return value

    def __setitem__(self, member: str, value: Any) -> None:
        self._open()[member] = value

    def __delitem__(self, member: str) -> None:
        del self._open()[member]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open())

    def __len__(self) -> int:
        return len(self._open())

    def modify(self, key: str, val: Any) -> M:
        """Set the member *key* to *val*; returns the model itself, so that calls can be chained."""
        self[key] = val
        return self

    @property
    def id(self) -> str | None:
        """The id that the model came with, or None."""
        self._open()
        found: str | None = self._before.get("id")
        return found

    @property
    def diff(self) -> dict[str, Any]:
        """The changed members with their new values; a deleted member is None."""
        changed = {
            member: value
            for member, value in self._open().items()
            if member not in self._before or not _same(self._before[member], value)
        }
        deleted = {member: None for member in self._before if member not in self._now}
        return {**changed, **deleted}

    def done(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """``(new_model, diff)``, both plain and free of this object."""
        return copy.deepcopy(self._open()), copy.deepcopy(self.diff)

    def for_json(self) -> dict[str, Any]:
        """The model with its changes, for simplejson."""
        return self._open()

    def __repr__(self) -> str:
        if self._changes is not None:
            return f"M({self._before!r}, changed={sorted(self._changes)!r})"
        return f"M({self._now!r}, changed={sorted(self.diff)!r})"


def _same(one: Any, other: Any) -> bool:
    """Deep equality that tells 1, 1.0 and True apart: each is stored differently."""
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


_NAMES = (
    "envelope",
    "filter",
    "hints",
    "level",
    "limit",
    "only",
    "order",
    "path",
    "positions",
    "pretty",
    "refs",
    "sort",
    "start",
    "timeout",
)


class P(Mapping[str, Any]):
    """Request parameters as a value: ``P(limit=10)``, or one call for each:
    ``P().limit(10).order("asc")``.

    Frozen; each call returns a new one. Any verb takes one as its last positional argument, or
    spread out: ``api.flow.find(mem.path == p, P(limit=10))``, ``api.flow.find(**P(limit=10))``. A
    parameter that this library does not know goes through the constructor's ``other=``.

    Args:
        other: parameters by name, passed on as they are.
        known: ``envelope filter hints level limit only order path positions pretty refs sort start
            timeout``.

    Raises:
        UsageError: an unknown name among *known*.
    """

    __slots__ = ("_values",)

    def __init__(self, other: Mapping[str, Any] | None = None, /, **known: Any) -> None:
        unknown = sorted(known.keys() - set(_NAMES))
        if unknown:
            raise UsageError(
                f"unknown parameter {', '.join(unknown)}", hint=f"known are: {', '.join(_NAMES)}"
            )
        self._values = {**(other or {}), **known}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"P({self._values!r})"

    def __copy__(self) -> P:
        return P(self._values)

    def __flowkit_map__(self, act: Callable[[Any], Any]) -> P:
        """The same parameters with *act* applied to every value."""
        return P({name: act(value) for name, value in self._values.items()})

    def _with(self, name: str, value: Any) -> P:
        return P({**self._values, name: value})

    def filter(self, value: Any) -> P:
        """A filter, or its text."""
        return self._with("filter", value)

    def hints(self, value: bool) -> P:
        """Whether typed elements come as such (3.6)."""
        return self._with("hints", value)

    def level(self, value: str) -> P:
        """``YEAR MONTH DAY`` or ``HOUR``, for statistics."""
        return self._with("level", value)

    def limit(self, value: int) -> P:
        """The most results."""
        return self._with("limit", value)

    def only(self, *members: str) -> P:
        """The members to return."""
        return self._with("only", members)

    def order(self, value: str) -> P:
        """``asc`` or ``desc``."""
        return self._with("order", value)

    def path(self, value: str) -> P:
        """The path of a Flow, for a find on drops."""
        return self._with("path", value)

    def refs(self, value: bool = True) -> P:
        """Whether the answer is a pair with the referenced objects."""
        return self._with("refs", value)

    def sort(self, member: str) -> P:
        """The member to sort on."""
        return self._with("sort", member)

    def start(self, value: int) -> P:
        """The index of the first result."""
        return self._with("start", value)

    def timeout(self, seconds: float) -> P:
        """Seconds that the call may take, retries included."""
        return self._with("timeout", seconds)
