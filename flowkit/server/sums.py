"""Exact sums and means: whole numbers are added as they are, doubles so that only the end is
rounded.

The order of the numbers makes no difference, so SQL may group them as it likes and says the same as
Python: the database calls ``Total`` itself (``store/functions.py``).

Source: protocol 5.2 (``$sum``, ``$avg``).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

from flowkit import limits

__all__ = ["Total"]

_PIECE_BITS = 48
"""Bits of a whole number that a double holds exactly, with some to spare."""


class Total:
    """Numbers that are added up."""

    __slots__ = ("_count", "_reals", "_whole")

    def __init__(self) -> None:
        self._whole = 0
        self._count = 0
        self._reals = array("d")

    def add(self, number: float) -> None:
        """Take one number, whole or not."""
        self._count += 1
        if isinstance(number, float):
            self._reals.append(number)
        else:
            self._whole += number

    @property
    def sum(self) -> float | None:
        """The sum, rounded once; None if it is beyond a double.

        It is whole if every number was; beyond 64 bits it is a double all the same, which is what
        JSON can carry.
        """
        if not self._reals:
            fits = limits.integer_min <= self._whole <= limits.integer_max
            return self._whole if fits else float(self._whole)
        try:
            return math.fsum(chain(self._reals, _pieces(self._whole)))
        except OverflowError:
            return _as_float(self._exact())

    @property
    def mean(self) -> float | None:
        """The sum divided by how many there are; None for none."""
        if not self._count:
            return None
        if not self._reals:
            return self._whole / self._count
        total = self.sum
        return total / self._count if total is not None else float(self._exact() / self._count)

    def _exact(self) -> Fraction:
        # fsum gives up where a sum on the way is too large, even if the end is not.
        return sum(map(Fraction, self._reals), Fraction(self._whole))


def _pieces(whole: int) -> Iterator[float]:
    """Doubles that add up to a whole number exactly."""
    sign, rest, shift = (-1 if whole < 0 else 1), abs(whole), 0
    while rest:
        yield float(sign * ((rest & (2**_PIECE_BITS - 1)) << shift))
        rest >>= _PIECE_BITS
        shift += _PIECE_BITS


def _as_float(exact: Fraction) -> float | None:
    try:
        return float(exact)
    except OverflowError:
        return None
