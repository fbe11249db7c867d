"""Seeing greenlets switch: for tests that say whether a call waited.

It hooks into greenlet's tracing of the calling thread and hands every event on to whoever was
tracing before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from greenlet import getcurrent, gettrace, settrace

__all__ = ["Switches", "count_switches"]


class Switches:
    """How often the greenlet that began to watch has left off for another one.

    Attributes:
        count: number of times.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def count_switches() -> Iterator[Switches]:
    """Count, within the block, how often the calling greenlet switches away."""
    seen = Switches()
    watched = getcurrent()
    before = gettrace()

    def trace(event: str, places: tuple[Any, Any]) -> None:
        if places[0] is watched:
            seen.count += 1
        if before is not None:
            before(event, places)

    settrace(trace)
    try:
        yield seen
    finally:
        settrace(before)
