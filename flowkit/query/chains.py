"""Filters made of filters, in their one form, within the bounds.

A chain of one operator is one node: operands of the same kind are taken in, the empty filter adds
nothing to ``&&`` and swallows ``||``, a chain of one is that one (protocol 4.7). Every compound
filter, built or parsed, is made here, so none exceeds the bounds of ``limits.py`` on depth, rules
and values, and whatever can be built can be written and read back.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowkit import limits
from flowkit.errors import FilterError, LimitError
from flowkit.query import normal
from flowkit.query.nodes import (
    And,
    Contains,
    Everything,
    Filter,
    In,
    Matches,
    Not,
    Or,
    Regex,
)

__all__ = ["alternatives", "bounded", "conjunction", "disjunction", "joined", "negation"]


def conjunction(parts: Iterable[Filter]) -> Filter:
    """All of *parts*, at least one."""
    return bounded(joined(parts))


def disjunction(parts: Iterable[Filter]) -> Filter:
    """Any of *parts*, at least one."""
    return bounded(alternatives(parts))


def negation(operand: Filter) -> Filter:
    """Not *operand*; the empty filter has no negation that could be written."""
    if isinstance(operand, Everything):
        raise FilterError(
            "the empty filter matches everything and cannot be negated",
            hint="nothing needs no query",
        )
    return bounded(Not(operand))


def joined(parts: Iterable[Filter]) -> Filter:
    """``conjunction`` without a look at the bounds, for one who looks at the end."""
    flat: list[Filter] = []
    for part in parts:
        if isinstance(part, And):
            flat.extend(part.operands)
        elif not isinstance(part, Everything):
            flat.append(part)
    if not flat:
        return Everything()
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def alternatives(parts: Iterable[Filter]) -> Filter:
    """``disjunction`` without a look at the bounds, for one who looks at the end."""
    flat: list[Filter] = []
    for part in parts:
        if isinstance(part, Everything):
            return part
        if isinstance(part, Or):
            flat.extend(part.operands)
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def bounded(whole: Filter) -> Filter:
    """*whole*, if it is within the bounds of ``limits.py`` on depth, rules, patterns and values."""
    rules = listed = patterns = depth = 0
    level: list[Filter] = [whole]
    while level:
        below: list[Filter] = []
        for part in level:
            children = part.children()
            if children:
                below += children
                continue
            rules += 1
            if isinstance(part, (In, Contains)) and isinstance(part.values, tuple):
                listed += len(part.values)
            elif isinstance(part, (Regex, Matches)):
                patterns += 1
        depth += bool(below)
        level = below
    for size, limit, what, unit in (
        (depth, limits.filter_depth_max, "the nesting of the filter", "levels"),
        (rules, limits.filter_rules_max, "the filter", "rules"),
        (patterns, limits.filter_patterns_max, "the filter", "regular expressions"),
    ):
        if size > limit:
            raise LimitError(what, size=size, limit=limit, unit=unit)
    if listed > limits.filter_values_max:
        raise normal.too_many_values(listed)
    return whole
