"""What is given to a parallel call: kept as it was, later made plain.

Rules of this module:

* ``kept`` runs when the call is made and never waits; ``plain`` runs in a green thread and waits
  for every thunk among the arguments that is not known yet.
* A thunk is recognised by its type alone (``is_thunk``): ``isinstance(thunk, dict)`` is a reading.
* A class whose instances hold arguments inside (``M``, ``P``) has ``__flowkit_map__(act)``: a new
  instance with ``act`` applied to everything it holds.
"""

from __future__ import annotations

import copy
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flowkit.query.nodes import Filter

__all__ = ["is_thunk", "kept", "origin", "plain"]

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_DEMO = os.path.join(_PACKAGE, "demo", "")
_ATOMS = frozenset({str, int, float, bool, type(None)})


def is_thunk(value: object) -> bool:
    """Whether *value* is a thunk; looks at its type only and never waits."""
    return getattr(type(value), "__flowkit_thunk__", False) is True


def origin() -> str:
    """``file:line`` of the innermost caller outside this package."""
    frame: types.FrameType | None = sys._getframe(1)
    inside = frame
    while frame is not None:
        inside, name = frame, frame.f_code.co_filename
        if not name.startswith(_PACKAGE) or name.startswith(_DEMO):
            break
        frame = frame.f_back
    assert inside is not None
    return f"{inside.f_code.co_filename}:{inside.f_lineno}"


def plain(value: Any) -> Any:
    """*value* with every thunk in it replaced by what it stands for; waits for each of them.

    Looks into dicts, lists, tuples, sets, slices, filters and whatever has ``__flowkit_map__`` (a
    model). The same object comes back if nothing had to be replaced.
    """
    return value if type(value) in _ATOMS or _is_flat(value) else _plain(value, frozenset())


def _is_flat(value: Any) -> bool:
    """Whether *value* is a container that holds only what needs no look, as most arguments do."""
    kind = type(value)
    if kind is tuple or kind is list:
        return _ATOMS.issuperset(map(type, value))
    if kind is dict:
        return _ATOMS.issuperset(map(type, value)) and _ATOMS.issuperset(map(type, value.values()))
    return False


def kept(value: Any, thunks: list[Any] | None = None, above: frozenset[int] = frozenset()) -> Any:
    """*value* as it is now: a call must not see what its maker changes afterwards. Never waits.

    Containers are copied, iterators are read to their end, thunks and filters stay.

    Args:
        value: an argument.
        thunks: takes the thunks that are met.
        above: ids of the containers around *value*: a list inside itself stays.
    """
    if type(value) in _ATOMS:
        return value
    if _is_flat(value):
        return value if type(value) is tuple else value.copy()
    if is_thunk(value):
        if thunks is not None:
            thunks.append(value)
        return value
    if isinstance(value, str):
        return value
    if isinstance(value, Filter):
        if thunks is not None:
            from flowkit.query.pending import unknowns

            for unknown in unknowns(value):
                kept(unknown, thunks, above)
        return value
    if id(value) in above:
        return value
    inner = above | {id(value)}

    def keep(entry: Any) -> Any:
        return kept(entry, thunks, inner)

    if isinstance(value, Iterator):
        return list(map(keep, value))
    if isinstance(value, dict):
        return _refilled(value, {key: keep(entry) for key, entry in value.items()})
    if isinstance(value, list | tuple | set | frozenset):
        return _rebuilt(value, list(map(keep, value)))
    return _map_other(value, keep)


def _plain(value: Any, above: frozenset[int]) -> Any:
    """*above* holds the ids of the containers around *value*: a list inside itself stays."""
    if is_thunk(value):
        return _plain(value._flowkit_read(), above)
    if isinstance(value, str | int | float | None) or id(value) in above:
        return value
    inner = above | {id(value)}
    if isinstance(value, dict):
        keys = _plain_each(value, inner)
        entries = _plain_each(value.values(), inner)
        if keys is None and entries is None:
            return value
        return _refilled(value, dict(zip(keys or value, entries or value.values(), strict=True)))
    if isinstance(value, list | tuple | set | frozenset):
        entries = _plain_each(value, inner)
        return value if entries is None else _rebuilt(value, entries)
    return _map_other(value, lambda entry: _plain(entry, inner))


def _plain_each(values: Iterable[Any], above: frozenset[int]) -> list[Any] | None:
    """Each of *values* made plain; None if nothing had to be replaced."""
    entries = []
    is_same = True
    for value in values:
        entry = value if type(value) in _ATOMS or _is_flat(value) else _plain(value, above)
        is_same = is_same and entry is value
        entries.append(entry)
    return None if is_same else entries


def _map_other(value: Any, act: Callable[[Any], Any]) -> Any:
    if isinstance(value, Filter):
        from flowkit.query.pending import resolve

        return resolve(value, act)
    if isinstance(value, slice):
        return slice(act(value.start), act(value.stop), act(value.step))
    if hasattr(type(value), "__flowkit_map__"):
        return value.__flowkit_map__(act)
    return value


def _refilled(value: dict[Any, Any], entries: dict[Any, Any]) -> dict[Any, Any]:
    if type(value) is dict:
        return entries
    other = copy.copy(value)
    other.clear()
    other.update(entries)
    return other


def _rebuilt(value: Any, entries: list[Any]) -> Any:
    if type(value) is list:
        return entries
    if isinstance(value, list):
        other = copy.copy(value)
        other[:] = entries
        return other
    if hasattr(value, "_fields"):  # a named tuple takes its entries one by one
        return type(value)(*entries)
    return type(value)(entries)
