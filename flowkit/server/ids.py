"""Object ids: a prefix letter and 24 hexadecimal digits that never fall within one server.

The digits are 8 of seconds since 1970, 6 of the node (drawn once per data folder) and 10 of a
counter within the second. When the clock steps back the second stays and the counter goes on, so
the order of ids is the order in which they were given, whatever the clock does.

Source: protocol 1.1. Rules: the clock is passed in; one ``Ids`` is used by one thread (the writer).
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["Ids"]

_DIGITS = re.compile(r"[0-9a-f]{24}")
_COUNTS = 1 << 40
"""Ids of one second. When they are used up the next second is begun early."""


class Ids:
    """The giver of ids of one server.

    Args:
        node: 6 hexadecimal digits, the same for the life of a data folder.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        last: the 24 digits given last in an earlier life, ``""`` for none; every new id is larger.

    Raises:
        ValueError: *node* or *last* is not of that form.
    """

    def __init__(self, node: str, *, clock_ms: Callable[[], int], last: str = "") -> None:
        if not re.fullmatch(r"[0-9a-f]{6}", node):
            raise ValueError(f"a node is 6 hexadecimal digits, not {node!r}")
        if last and not _DIGITS.fullmatch(last):
            raise ValueError(f"the last id is 24 hexadecimal digits, not {last!r}")
        self._node = node
        self._clock_ms = clock_ms
        self._second = int(last[:8], 16) if last else -1
        self._count = int(last[14:], 16) if last else -1

    @property
    def last(self) -> str:
        """The 24 digits given last, ``""`` before the first; what the next life starts from."""
        if self._second < 0:
            return ""
        return f"{self._second:08x}{self._node}{self._count:010x}"

    def next(self, prefix: str) -> str:
        """A new id with that *prefix* letter, larger than every one before it (prefix aside)."""
        second = self._clock_ms() // 1000
        if second > self._second:
            self._second, self._count = second, 0
        else:
            self._count += 1
            if self._count == _COUNTS:
                self._second, self._count = self._second + 1, 0
        return f"{prefix}{self._second:08x}{self._node}{self._count:010x}"
