"""The statistics of an API: how often something happened in each period.

Source: protocol 10, 13.1, 13.2 (defect 40).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

from flowkit.client import finding
from flowkit.client.services import verb
from flowkit.errors import UsageError

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["Statistics"]

LEVELS = ("YEAR", "MONTH", "DAY", "HOUR")


_Count = Callable[..., Any]


def _counter(kind: str, doc: str) -> _Count:
    """The method for one type of statistics."""

    @verb
    def count(
        self: Statistics,
        id: Any,  # noqa: A002 - the contract's name
        year: int | None = None,
        month: int | None = None,
        day: int | None = None,
        level: str | None = None,
        **params: Any,
    ) -> Any:
        place = ("statistics", kind, finding.one_id(id), *_period(year, month, day))
        return self._api.call("GET", place, {**params, "level": _level(level)})

    count.__doc__ = doc
    count.__qualname__ = f"Statistics.{kind}"
    return count


class Statistics:
    """Counts per period, as lists of whole numbers.

    Each method takes ``(id, year=None, month=None, day=None, level=None, **params)``: the object,
    and the period: nothing (every year), a year, a month of it, a day of that. Months and days
    count from 1, periods are those of UTC. ``level`` is what one number stands for: ``YEAR MONTH
    DAY`` or ``HOUR``, in any case; without it, one finer than the period. Each has a second name in
    camel case.

    Each raises ``UsageError`` for a day without its month, an impossible date, an unknown level.
    """

    def __init__(self, api: API) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"<Statistics of {self._api!r}>"

    flow_drop_added = _counter("flowDropAdded", "Drops added to a flow, tracked ones included.")
    flow_tracked = _counter("flowTracked", "Drops that left a flow through tracks.")
    track_hit = _counter("trackHit", "Drops that reached a track.")
    track_pass = _counter("trackPass", "Drops that passed a track's filter and script.")
    api_call_by_identity = _counter("apiCallByIdentity", "Calls of an identity.")
    drop_created_by = _counter("dropCreatedBy", "Drops created by an identity.")

    # The names of the wire, which old scripts use.
    flowDropAdded = flow_drop_added  # noqa: N815
    flowTracked = flow_tracked  # noqa: N815
    trackHit = track_hit  # noqa: N815
    trackPass = track_pass  # noqa: N815
    apiCallByIdentity = api_call_by_identity  # noqa: N815
    dropCreatedBy = drop_created_by  # noqa: N815


def _level(level: Any) -> str | None:
    if level is None:
        return None
    if not isinstance(level, str) or level.upper() not in LEVELS:
        raise UsageError(f"level={level!r} is none of {', '.join(LEVELS)}")
    return level.upper()


def _period(year: Any, month: Any, day: Any) -> tuple[str, ...]:
    """The segments that name a period."""
    given = [("year", year), ("month", month), ("day", day)]
    present = [(name, value) for name, value in given if value is not None]
    if present != given[: len(present)]:
        missing = next(name for name, value in given if value is None)
        raise UsageError(f"{present[-1][0]} was given without {missing}")
    for name, value in present:
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{name}={value!r} is not a whole number")
    numbers = [value for _, value in present]
    if numbers:
        try:
            date(*[*numbers, 1, 1][:3])
        except (ValueError, OverflowError) as error:
            raise UsageError(f"there is no such period: {error}") from None
    return tuple(str(number) for number in numbers)
