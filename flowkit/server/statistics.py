"""Periods and levels of statistics: which hours each number of an answer adds up.

Everything is UTC and counted in whole hours since 1970. A **period** is the one that was asked for
(every year, a year, a month, a day), a **level** what one number stands for. A level that is not
finer than the period gives one number: the whole period.

Source: protocol 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from flowkit.errors import BadRequest

__all__ = ["KINDS", "LEVELS", "Period", "added_up", "read_level", "read_period"]

KINDS: Mapping[str, str] = {
    "flowDropAdded": "flow",
    "flowTracked": "flow",
    "trackHit": "track",
    "trackPass": "track",
    "apiCallByIdentity": "identity",
    "dropCreatedBy": "identity",
}
"""Type of statistics to the resource whose id it takes."""

LEVELS = ("YEAR", "MONTH", "DAY", "HOUR")
"""Levels, the coarsest first."""

_NAMES = ("year", "month", "day")
_DIGITS = {"year": re.compile("[0-9]{1,4}"), "month": re.compile("[0-9]{1,2}")}
_DIGITS["day"] = _DIGITS["month"]
_MS_PER_HOUR = 3_600_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Period:
    """What was asked for: nothing, a year, a month of it, a day of that."""

    year: int | None = None
    month: int | None = None
    day: int | None = None

    @property
    def finest(self) -> int:
        """How many of the three were given."""
        return sum(each is not None for each in (self.year, self.month, self.day))

    def bounds(self, level: str | None, created_ms: int, now_ms: int) -> list[int]:
        """The hours at which the numbers of the answer begin, and the hour where the last ends.

        Args:
            level: one of ``LEVELS``; None for one finer than the period.
            created_ms: when the object was made, in ms since 1970 UTC.
            now_ms: the time of the request; both say the years if none was asked for.
        """
        if self.year is None:
            years = [datetime.fromtimestamp(ms // 1000, UTC).year for ms in (created_ms, now_ms)]
            first, last = min(years), years[1]
        else:
            first = last = self.year
        begin = _hour(date(first, self.month or 1, self.day or 1))
        end = self._end(last)
        at = LEVELS.index(level or LEVELS[self.finest])
        # Every year is no period of its own: by YEAR it still has a number for each.
        if at < self.finest:
            return [begin, end]
        if LEVELS[at] == "HOUR":
            return list(range(begin, end + 1))
        if LEVELS[at] == "DAY":
            return list(range(begin, end + 1, 24))
        months = range(1, 13) if self.month is None else (self.month,)
        starts = [
            _hour(date(year, month, 1))
            for year in range(first, last + 1)
            for month in (months if LEVELS[at] == "MONTH" else (1,))
        ]
        return [*starts, end]

    def _end(self, last: int) -> int:
        """The first hour behind the period."""
        if self.day is not None:
            return _hour(date(last, self.month or 1, self.day)) + 24
        month = self.month or 12
        if (last, month) == (9999, 12):  # there is no date behind it
            return _hour(date(9999, 12, 31)) + 24
        following = date(last, month, 28) + timedelta(days=4)
        return _hour(following.replace(day=1))


def _hour(day: date) -> int:
    """Hours since 1970 at the beginning of a day."""
    return (day.toordinal() - _EPOCH_DAY) * 24


def added_up(counts: Mapping[int, int], bounds: Sequence[int]) -> list[int]:
    """The numbers of an answer.

    Args:
        counts: counts by hour.
        bounds: of ``Period.bounds``.
    """
    if len(bounds) - 1 == bounds[-1] - bounds[0]:
        return [counts.get(hour, 0) for hour in bounds[:-1]]
    hours = sorted(counts)
    numbers, at = [], 0
    for begin, end in pairwise(bounds):
        number = 0
        while at < len(hours) and hours[at] < end:
            number += counts[hours[at]] if hours[at] >= begin else 0
            at += 1
        numbers.append(number)
    return numbers


def read_period(args: Mapping[str, str]) -> Period:
    """The period in an address.

    Raises:
        BadRequest: there is no such date.
    """
    given: dict[str, int] = {}
    for name in _NAMES:
        text = args.get(name)
        if text is None:
            break
        if not _DIGITS[name].fullmatch(text):
            raise BadRequest(f"{name}: must be a number, not {text[:20]!r}")
        given[name] = int(text)
    if given:
        try:
            date(given["year"], given.get("month", 1), given.get("day", 1))
        except ValueError as error:
            written = "-".join(str(each) for each in given.values())
            raise BadRequest(f"{list(given)[-1]}: there is no {written}: {error}") from None
    return Period(**given)


def read_level(given: Any) -> str | None:
    """The level of a parameter, in any case; None for none.

    Raises:
        BadRequest: there is no such level.
    """
    if given is None or given == "":
        return None
    level = given.strip().upper() if isinstance(given, str) else given
    if level not in LEVELS:
        raise BadRequest(f"level: must be one of {', '.join(LEVELS)}, not {str(given)[:20]!r}")
    return str(level)
