"""The filter language: built with Python operators, written as text, parsed, matched, explained.

``from flowkit.query import mem, AGE, EXISTS, HAS, MATCHES, NOT, all_of, any_of, Filter``.
"""

from __future__ import annotations

from flowkit.query.build import AGE, EXISTS, HAS, MATCHES, NOT, Member, all_of, any_of, mem
from flowkit.query.nodes import Filter

__all__ = [
    "AGE",
    "EXISTS",
    "HAS",
    "MATCHES",
    "NOT",
    "Filter",
    "Member",
    "all_of",
    "any_of",
    "mem",
]
