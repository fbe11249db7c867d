"""The end of what works in the background, within a bound.

Whatever hangs is left behind and logged: nothing in the store depends on a part that has stopped in
order, and a server that does not end is worse than one that ends early.

Source: ``docs/howto/operate_a_server.rst``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from flowkit.green import Cell, monotonic, start_thread

__all__ = ["Stops", "stop_within"]

_log = logging.getLogger(__name__)


class Stops(Protocol):
    """A part that works in the background."""

    def close(self) -> None:
        """End what is under way and stop."""


def stop_within(parts: Mapping[str, Stops | None], timeout_s: float) -> None:
    """Close all *parts* at once, by name, and wait for them at most *timeout_s* seconds.

    Never raises: what goes wrong is logged.
    """
    until = monotonic() + timeout_s
    stopping = {name: _stopping(part) for name, part in parts.items() if part is not None}
    for name, ended in stopping.items():
        if not ended.wait(max(0.0, until - monotonic())):
            _log.error("%s: not stopped within %g s, left behind", name, timeout_s)
        elif (error := ended.outcome()[0]) is not None:
            _log.error("%s: not stopped in order: %s", name, error)


def _stopping(part: Stops) -> Cell[None]:
    ended: Cell[None] = Cell()

    def close() -> None:
        try:
            part.close()
        except Exception as error:  # noqa: BLE001 - logged by who waits
            ended.fail(error)
        else:
            ended.set(None)

    start_thread(close, name="flowkit-stop")
    return ended
