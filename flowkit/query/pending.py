"""Values that are not known yet: kept in a filter as placeholders, replaced before it is sent.

Rules:

* a thunk is recognised by its type (``__flowkit_thunk__ = True`` on the class) and never touched:
  no attribute, comparison, hash or truth of it is asked for, and no ``isinstance`` either, which
  would ask for its ``__class__`` and wait;
* a placeholder remembers the line that built it, and an error about its value names that line;
* it also remembers the check that a plain value gets in its place; ``resolve`` runs that check.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from flowkit.errors import FilterError, LimitError
from flowkit.query import chains, normal
from flowkit.query.nodes import And, Filter, Not, Or, Placeholder

__all__ = [
    "has_placeholders",
    "is_a",
    "keep",
    "keep_all",
    "keep_pattern",
    "keep_place",
    "pending",
    "resolve",
    "unknowns",
]


def pending(value: object) -> bool:
    """Whether *value* is a thunk."""
    return getattr(type(value), "__flowkit_thunk__", False) is True


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """``isinstance`` for what may be a thunk: by its type alone, so that nothing waits."""
    return issubclass(type(value), kind)


def keep(value: Any, check: Callable[[Any], Any]) -> Any:
    """*value* brought to its one form by *check* now, or as a placeholder."""
    return _placeholder(value, check) if pending(value) else check(value)


def keep_all(values: Any, word: str) -> Any:
    """The values of a list: a thunk for all of them, or values of which some may be thunks."""
    if pending(values):
        return _placeholder(values, partial(_late_values, word=word))
    if any(map(pending, values)):
        return tuple(keep(value, normal.literal) for value in values)
    return normal.values(values)


def keep_pattern(pattern: object, flags: object) -> tuple[Any, str]:
    """A pattern and its flags; only the pattern may be unknown."""
    if pending(flags):
        raise FilterError("the flags of a pattern must be known when the filter is built")
    if pending(pattern):
        return _placeholder(pattern, _late_pattern), normal.flags(flags)
    return normal.pattern(pattern, flags)


def keep_place(coords: object) -> Any:
    """A pair of coordinates; a placeholder if it, or one of the two, is not known yet."""
    if pending(coords) or (isinstance(coords, (tuple, list)) and any(map(pending, coords))):
        return _placeholder(coords, normal.place)
    return normal.place(coords)


def _late_values(value: Any, *, word: str) -> tuple[Any, ...]:
    """What stands for a whole list may turn out to be a single value."""
    many = normal.is_collection(value)
    return normal.values(normal.collected(value, word=word) if many else (value,))


def _late_pattern(value: Any) -> str:
    # The flags stand beside the thunk already; those of a compiled pattern would be lost.
    if not isinstance(value, str):
        raise FilterError(f"a pattern that comes late is text, not {normal.shown(value)}")
    return normal.pattern(value)[0]


def _placeholder(value: object, check: Callable[[Any], Any]) -> Placeholder:
    """A placeholder for *value* that names the nearest line outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        room = frame.f_globals.get("__name__", "")
        if room != "flowkit" and not room.startswith("flowkit."):
            break
        frame = frame.f_back
    return Placeholder(value, f"{frame.f_code.co_filename}:{frame.f_lineno}", check)


def has_placeholders(filter: Filter) -> bool:  # noqa: A002 - the glossary's word
    """Whether some value of *filter* is not known yet."""
    return any(True for _ in unknowns(filter))


def unknowns(filter: Filter) -> Iterator[Any]:  # noqa: A002 - the glossary's word
    """What *filter* holds that is not known yet: thunks, and tuples of them; waits for nothing."""
    for value in (getattr(part, name) for part in filter.walk() for name in part.names()):
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, Placeholder):
                yield entry.pending


def _is_unknown(value: object) -> bool:
    if isinstance(value, tuple):
        return any(isinstance(entry, Placeholder) for entry in value)
    return isinstance(value, Placeholder)


def resolve(filter: Filter, unwrap: Callable[[Any], Any]) -> Filter:  # noqa: A002 - the glossary's word
    """*filter* with every placeholder replaced by its value.

    Args:
        filter: any filter; one without placeholders is returned as it is.
        unwrap: gives the plain value of a thunk; may wait, and its errors come through unchanged.

    Raises:
        FilterError: a value may not stand where it stands; names the line that built the rule.
    """
    if not has_placeholders(filter):
        return filter
    return _resolved(filter, unwrap)


def _resolved(part: Filter, unwrap: Callable[[Any], Any]) -> Filter:
    match part:
        case And():
            return chains.conjunction(_resolved(child, unwrap) for child in part.operands)
        case Or():
            return chains.disjunction(_resolved(child, unwrap) for child in part.operands)
        case Not():
            return chains.negation(_resolved(part.operand, unwrap))
    changes = {
        name: _known(value, unwrap)
        for name in part.names()
        if _is_unknown(value := getattr(part, name))
    }
    return replace(part, **changes) if changes else part  # type: ignore[type-var]


def _known(value: Any, unwrap: Callable[[Any], Any]) -> Any:
    """What a rule may hold in place of *value*: a placeholder, or values with some among them."""
    if isinstance(value, tuple):
        return tuple(_known(entry, unwrap) for entry in value)
    if not isinstance(value, Placeholder):
        return value
    known = value.pending
    if pending(known):
        known = unwrap(known)
    elif isinstance(known, (tuple, list)):  # coordinates
        known = [unwrap(one) if pending(one) else one for one in known]
    try:
        return value.check(known)
    except (FilterError, LimitError) as error:
        raise FilterError(
            f"{error.problem}, in the filter built at {value.origin}", hint=error.hint
        ) from error
