"""Turns: work on many things, side by side and fairly, and on each of them one turn at a time.

Things wait in **lanes**, each with threads of its own, so that what is slow in one lane holds up
nothing in another. A thing has at most one turn at once, in whatever lane; who has more to do goes
to the end of its lane. Threads start with the first turn and sleep while there is nothing to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from flowkit.green import NativeLock, NativeQueue, sleep, start_thread

__all__ = ["Turns"]

_log = logging.getLogger(__name__)

_CLOSING_LOOK_S = 0.005


class Turns:
    """Gives turns to things, which are named by strings.

    Args:
        turn: one turn: is given the thing and the lane, and says in which lane it has to go on;
            None if it has not.
        lanes: the name of each lane, and how many turns it gives at once.
    """

    def __init__(self, turn: Callable[[str, str], str | None], lanes: Mapping[str, int]) -> None:
        self._turn = turn
        self._lanes = {name: _Lane(threads) for name, threads in lanes.items()}
        self._lock = NativeLock()
        self._again: dict[str, str | None] = {}
        self._is_closed = False

    def put(self, thing: str, lane: str) -> None:
        """Give *thing* a turn, or another one after the one that it has."""
        with self._lock:
            if self._is_closed:
                return
            if thing in self._again:
                self._again[thing] = lane
                return
            self._again[thing] = None
            begins = self._queued(thing, lane)
        if begins:
            start_thread(self._loop, lane, name=f"flowkit-{lane}")

    def close(self) -> None:
        """Wait for the turns under way; no further ones begin."""
        with self._lock:
            self._is_closed = True
            for lane in self._lanes.values():
                for _ in range(lane.threads):
                    lane.queue.put(None)
        while any(lane.threads for lane in self._lanes.values()):
            sleep(_CLOSING_LOOK_S)

    def _queued(self, thing: str, name: str) -> bool:
        """Under the lock: let it wait; whether a thread has to be started."""
        lane = self._lanes[name]
        lane.waiting += 1
        lane.queue.put(thing)
        begins = lane.threads < lane.threads_max and lane.waiting + lane.busy > lane.threads
        lane.threads += begins
        return begins

    def _loop(self, name: str) -> None:
        lane = self._lanes[name]
        while (thing := lane.queue.get()) is not None and not self._is_closed:
            with self._lock:
                lane.waiting -= 1
                lane.busy += 1
                self._again[thing] = None
            try:
                further = self._turn(thing, name)
            except Exception:  # noqa: BLE001 - a fault of ours must not end the lane
                _log.exception("a turn of %s failed", thing)
                further = None
            with self._lock:
                lane.busy -= 1
                begins = self._ended(thing, further)
            if begins is not None:
                start_thread(self._loop, begins, name=f"flowkit-{begins}")
        with self._lock:
            lane.threads -= 1

    def _ended(self, thing: str, further: str | None) -> str | None:
        """Under the lock, after a turn; the lane that needs another thread, if one does."""
        # what the turn itself found out is newer than what was known when somebody asked
        name = further or self._again[thing]
        if name is None or self._is_closed:
            del self._again[thing]
            return None
        self._again[thing] = None
        return name if self._queued(thing, name) else None


class _Lane:
    """What waits in one lane, and its threads."""

    def __init__(self, threads_max: int) -> None:
        self.threads_max = threads_max
        self.queue: Any = NativeQueue()
        self.waiting = 0
        self.busy = 0
        self.threads = 0
