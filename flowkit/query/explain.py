"""Why an object matched or not: which part of a filter held, which failed, and with which value.

``explain`` asks the very predicate of each rule, so it cannot disagree with ``matches``. What a
short circuit left out is shown as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowkit.query import meaning
from flowkit.query.match import predicate
from flowkit.query.nodes import (
    UNITS_KM,
    Age,
    And,
    Comparison,
    Contains,
    Exists,
    Filter,
    In,
    MemberComparison,
    Modulo,
    Not,
    Or,
    Path,
    Placeholder,
    Regex,
    Within,
    Zip,
)
from flowkit.query.places import Places, place_of
from flowkit.query.render import path_text

__all__ = ["Explanation", "explain"]

Seen = tuple[str, tuple[Any, ...]]
"""What was looked at, and the values found there."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one filter, or one part of it, went for one object.

    Attributes:
        text: the part as filter text.
        held: whether it held; None: not looked at, because the outcome was already known.
        seen: for a rule, each member that it names, with the values found there (none: absent);
            then the ages or distances that it compared, if any.
        parts: the operands of ``&&``, ``||`` and ``NOT``.
    """

    text: str
    held: bool | None
    seen: tuple[Seen, ...] = ()
    parts: tuple[Explanation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.held)

    def __str__(self) -> str:
        return "\n".join(self._lines(0))

    def _lines(self, level: int) -> Iterator[str]:
        word = {True: "held", False: "failed", None: "not looked at"}[self.held]
        seen = ", ".join(f"{name} is {_shown(values)}" for name, values in self.seen)
        told = f": {seen}" if seen and self.held is not None else ""
        yield f"{'  ' * level}{self.text or '(the empty filter)'}  [{word}{told}]"
        for part in self.parts:
            yield from part._lines(level + 1)

    def reasons(self) -> Iterator[Explanation]:
        """The rules that decided the outcome: those looked at, innermost parts only."""
        if not self.parts and self.held is not None:
            yield self
        for part in self.parts:
            yield from part.reasons()


def explain(
    filter: Filter,  # noqa: A002 - the word of the language
    obj: Mapping[str, Any],
    *,
    now_ms: int | None = None,
    resource: str = "drop",
    places: Places | None = None,
    types: Mapping[str, str] | None = None,
) -> Explanation:
    """Which parts of *filter* held and failed for *obj*; arguments as in ``match.matches``."""

    def told(node: Filter, looked_at: bool) -> Explanation:
        parts = _parts(node, looked_at)
        if parts is None:
            holds = predicate(node, resource)(obj, now_ms, places, types) if looked_at else None
            seen = tuple(_seen(node, obj, resource))
            if looked_at:
                seen += tuple(made for made in _compared(node, seen, now_ms, places) if made[1])
            return Explanation(str(node), holds, seen)
        held = _outcome(node, parts) if looked_at else None
        return Explanation(str(node), held, parts=parts)

    def _parts(node: Filter, looked_at: bool) -> tuple[Explanation, ...] | None:
        if not isinstance(node, (And, Or, Not)):
            return None
        parts = []
        decides = isinstance(node, Or)
        for operand in node.children():
            parts.append(told(operand, looked_at))
            looked_at = looked_at and (isinstance(node, Not) or parts[-1].held is not decides)
        return tuple(parts)

    return told(filter, True)


def _outcome(node: Filter, parts: tuple[Explanation, ...]) -> bool:
    if isinstance(node, Not):
        return not parts[0].held
    asked = [bool(part.held) for part in parts if part.held is not None]
    return any(asked) if isinstance(node, Or) else all(asked)


def _seen(node: Filter, obj: Mapping[str, Any], resource: str) -> Iterator[Seen]:
    """The members that a rule names and the values at their ends."""
    for path in _paths(node):
        found = meaning.walk(obj, meaning.resolve(path, resource))
        yield path_text(path), tuple(meaning.ends(found))


def _compared(
    node: Filter, seen: tuple[Seen, ...], now_ms: int | None, places: Places | None
) -> Iterator[Seen]:
    """What a rule made of the values before it compared: ages and distances."""
    ends = seen[0][1] if seen else ()
    if isinstance(node, Age) and now_ms is not None:
        yield "its age in ms", tuple(now_ms - end for end in ends if meaning.is_number(end))
    elif isinstance(node, Within) and not isinstance(node.place, Placeholder):
        centre = place_of(places, node.place.code) if isinstance(node.place, Zip) else node.place
        away = (meaning.distance_km(*meaning.place_in(end), centre) for end in ends)
        km = UNITS_KM[node.unit]
        yield (
            f"its distance in {node.unit}",
            tuple(float(f"{d / km:.9g}") for d in away if math.isfinite(d)),
        )


def _paths(node: Filter) -> tuple[Path, ...]:
    match node:
        case MemberComparison():
            return node.path, node.other
        case Age():
            return (node.path or ("creationDate",),)
        case Comparison() | Modulo() | Regex() | In() | Contains() | Within() | Exists():
            return (node.path,)
    return ()


def _shown(values: tuple[Any, ...], chars: int = 60) -> str:
    if not values:
        return "absent"
    said = repr(values[0]) if len(values) == 1 else " and ".join(map(repr, values))
    return said if len(said) <= chars else said[: chars - 1] + "…"
