"""How long to wait before the next try: longer each time, with chance in it.

Devices that failed together must not come back together, so no pause is the same twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from flowkit.device import bounds

__all__ = ["about_s", "backoff_s"]

_LEVEL_MAX = 20
_CHANCE: Callable[[], float] = random.SystemRandom().random


def backoff_s(level: int, chance: Callable[[], float] = _CHANCE) -> float:
    """Seconds before try number *level* + 1: half to the whole of a pause that doubles.

    Args:
        level: failures so far, 1 or more.
        chance: gives numbers from 0 to 1.
    """
    doubled_s = bounds.sender_retry_first_s * 2.0 ** (min(level, _LEVEL_MAX) - 1)
    return min(bounds.sender_retry_max_s, doubled_s) * (0.5 + chance() / 2)


def about_s(seconds: float, chance: Callable[[], float] = _CHANCE) -> float:
    """*seconds*, up to a quarter less or more."""
    return seconds * (0.75 + chance() / 2)
