"""Values that are not known yet: kept in a filter as placeholders, replaced before it is sent.

Rules:

* a thunk is recognised by its type (``__flowkit_thunk__ = True`` on the class) and never touched:
  no attribute, comparison, hash or truth of it is asked for;
* a placeholder remembers the line that built it, and an error about its value names that line;
* ``resolve`` runs the very checks that a plain value gets when the filter is built.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from flowkit.errors import FilterError, LimitError
from flowkit.query import chains, normal
from flowkit.query.nodes import (
    Age,
    And,
    Comparison,
    Contains,
    Everything,
    Filter,
    In,
    Matches,
    Modulo,
    Not,
    Or,
    Placeholder,
    Regex,
    Within,
)

__all__ = [
    "has_placeholders",
    "keep",
    "keep_pattern",
    "keep_place",
    "pending",
    "placeholder",
    "resolve",
]


def pending(value: object) -> bool:
    """Whether *value* is a thunk."""
    return getattr(type(value), "__flowkit_thunk__", False) is True


def keep(value: Any, normalise: Callable[..., Any], *facts: object) -> Any:
    """*value* brought to its one form now, or as a placeholder."""
    return placeholder(value) if pending(value) else normalise(value, *facts)


def keep_pattern(pattern: object, flags: object) -> tuple[Any, str]:
    """A pattern and its flags; only the pattern may be unknown."""
    if pending(flags):
        raise FilterError("the flags of a pattern must be known when the filter is built")
    if pending(pattern):
        return placeholder(pattern), normal.flags(flags)
    return normal.pattern(pattern, flags)


def keep_place(coords: object) -> Any:
    """A pair of coordinates; a placeholder if it, or one of the two, is not known yet."""
    if pending(coords) or (isinstance(coords, (tuple, list)) and any(map(pending, coords))):
        return placeholder(coords)
    return normal.place(coords)


def placeholder(value: object) -> Placeholder:
    """A placeholder for *value* that names the nearest line outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        room = frame.f_globals.get("__name__", "")
        if room != "flowkit" and not room.startswith("flowkit."):
            break
        frame = frame.f_back
    return Placeholder(value, f"{frame.f_code.co_filename}:{frame.f_lineno}")


def has_placeholders(filter: Filter) -> bool:  # noqa: A002 - the glossary's word
    """Whether some value of *filter* is not known yet."""
    return any(_placeholders(part) for part in filter.walk())


def _placeholders(part: Filter) -> bool:
    for field in fields(part):  # type: ignore[arg-type]
        value = getattr(part, field.name)
        if isinstance(value, Placeholder):
            return True
        if isinstance(value, tuple) and any(isinstance(entry, Placeholder) for entry in value):
            return True
    return False


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
        case Everything():
            return part
    changes: dict[str, Any] = {}
    for name, normalise in _CHECKS.get(type(part), {}).items():
        value = getattr(part, name)
        if isinstance(value, Placeholder):
            changes[name] = _known(value, unwrap, normalise)
        elif isinstance(value, tuple) and name == "values":
            changes[name] = tuple(
                _known(entry, unwrap, normal.literal) if isinstance(entry, Placeholder) else entry
                for entry in value
            )
    return replace(part, **changes) if changes else part  # type: ignore[type-var]


def _known(
    unknown: Placeholder, unwrap: Callable[[Any], Any], normalise: Callable[[Any], Any]
) -> Any:
    """The value of a placeholder after the checks of its place."""
    if pending(unknown.pending):
        value = unwrap(unknown.pending)
    else:
        value = tuple(unwrap(one) if pending(one) else one for one in unknown.pending)
    try:
        return normalise(value)
    except (FilterError, LimitError) as error:
        raise FilterError(
            f"{error.problem}, in the filter built at {unknown.origin}", hint=error.hint
        ) from error


def _values(value: Any) -> tuple[Any, ...]:
    """What stands for a whole list may turn out to be a single value."""
    return normal.values(normal.collected(value) if normal.is_collection(value) else (value,))


def _place(value: Any) -> Any:
    """Coordinates or a postal code: a text or one number is a code."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return normal.zip_code(value)
    return normal.place(value)


def _pattern(value: Any) -> str:
    # The flags stand beside the thunk already; those of a compiled pattern would be lost.
    if not isinstance(value, str):
        raise FilterError(f"a pattern that comes late is text, not {normal.shown(value)}")
    return normal.pattern(value)[0]


_CHECKS: dict[type[Filter], dict[str, Callable[[Any], Any]]] = {
    Comparison: {"value": normal.literal},
    Modulo: {"divisor": normal.divisor, "remainder": normal.number},
    Regex: {"pattern": _pattern},
    Matches: {"pattern": _pattern},
    In: {"values": _values},
    Contains: {"values": _values},
    Within: {"distance": normal.radius, "place": _place},
    Age: {"ms": normal.duration_ms},
}
"""The values that each rule holds, and the check of each."""
