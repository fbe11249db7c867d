"""When an event happened: what users write for a moment, to milliseconds since 1970.

The unit of a number is said, never guessed: milliseconds taken for seconds put a measurement into
the year 55000, and what no calendar has is refused rather than replaced by the present.
"""

from __future__ import annotations

import time
from datetime import datetime
from math import isfinite
from numbers import Real
from typing import Literal

from flowkit.errors import UsageError

__all__ = ["Unit", "event_ms"]

Unit = Literal["s", "ms", "ns"]

_MS_PER = {"s": 1000.0, "ms": 1.0, "ns": 1e-6}
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999."""


def event_ms(epoch: object, unit: Unit = "s") -> int | float:
    """Milliseconds since 1970 of a moment; a whole number where it is one.

    Args:
        epoch: a number in *unit*, an aware datetime, ISO text with its offset, or None for now.
        unit: of a number: ``s``, ``ms`` or ``ns``.

    Raises:
        UsageError: it is no moment, has no time zone, or lies outside of the years 1 to 9999.
    """
    if unit not in _MS_PER:
        raise UsageError(f"the unit of an epoch is 's', 'ms' or 'ns', not {unit!r}")
    if epoch is None:
        return time.time_ns() // 1_000_000
    if isinstance(epoch, str):
        try:
            epoch = datetime.fromisoformat(epoch)
        except ValueError:
            raise UsageError(
                f"{epoch!r} is no time in ISO 8601", hint="write 2026-11-21T15:04:05+00:00"
            ) from None
    if isinstance(epoch, datetime):
        if epoch.utcoffset() is None:
            raise UsageError(
                f"{epoch.isoformat()} has no time zone", hint="give it one: …, tzinfo=timezone.utc"
            )
        return _whole(epoch.timestamp() * 1000)
    if isinstance(epoch, bool) or not isinstance(epoch, Real):
        raise UsageError(f"{epoch!r} is no time", hint="give a number, a datetime or ISO text")
    if isinstance(epoch, float) and not isfinite(epoch):
        raise UsageError(f"{epoch!r} is no time: it is not finite")
    shown_ms = _exact(epoch, unit)
    if not _FIRST_MS <= shown_ms <= _LAST_MS:
        raise UsageError(
            f"{epoch!r} {unit} since 1970 is in no year from 1 to 9999",
            hint="say the unit of the number: unit='ms' or unit='ns'",
        )
    return _whole(shown_ms)


def _exact(epoch: Real, unit: Unit) -> float:
    """Whole seconds and milliseconds stay exact; they may have more digits than a float keeps."""
    if isinstance(epoch, int):
        if unit == "ns":
            return epoch // 1_000_000 + (epoch % 1_000_000) / 1_000_000
        return epoch * (1000 if unit == "s" else 1)
    try:
        return float(epoch) * _MS_PER[unit]
    except OverflowError:
        return float("inf")


def _whole(ms: float) -> int | float:
    """*ms* without the noise of binary fractions: to a ten-thousandth of a millisecond."""
    rounded = round(ms, 4)
    return int(rounded) if rounded == int(rounded) else rounded
