"""Whether a call let other greenlets run: the difference between working and waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from flowkit.green.trace import Switches, count_switches

__all__ = ["no_switch", "switches"]


def switches() -> AbstractContextManager[Switches]:
    """Count how often the calling greenlet leaves off for another one within the block.

    ::

        with switches() as seen:
            repr(thunk)
        assert seen.count == 0

    A plain thread without a hub blocks instead of switching, so call from a thread in which gevent
    is in use.
    """
    return count_switches()


@contextmanager
def no_switch() -> Iterator[None]:
    """Assert that nothing within the block waits.

    Raises:
        AssertionError: the calling greenlet let another one run.
    """
    with count_switches() as seen:
        yield
    if seen.count:
        raise AssertionError(f"the block was expected not to wait, but switched {seen.count} times")
