"""Postal codes as places, for ``WITHIN … OF [ZIP=…]``.

Evaluators take the table as an argument (``places``): a function from the text of a code to
degrees. The table of the United States comes with the package ``zipcodes`` (extra ``server``);
without it, and without another table, the rule is refused (protocol 4.5.11).
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Protocol

from flowkit.errors import FilterError

__all__ = ["Places", "place_of", "zip_table"]


class Places(Protocol):
    """A table of postal codes."""

    def __call__(self, code: str, /) -> tuple[float, float] | None:
        """``(latitude, longitude)`` in degrees of a postal code; None for one it does not know."""


def zip_table() -> Places | None:
    """The table of the United States, or None where the package ``zipcodes`` is not installed."""
    try:
        import_module("zipcodes")
    except ImportError:
        return None
    return _united_states


def place_of(places: Places | None, code: str) -> tuple[float, float]:
    """Where a postal code lies.

    Raises:
        FilterError: there is no table, or the table does not know the code: a filter that can match
            nothing is refused, not run.
    """
    if places is None:
        raise FilterError("filter: ZIP lookup is not available")
    place = places(code)
    if place is None:
        raise FilterError(f"filter: ZIP {code[:20]} is not known")
    return place


@lru_cache(maxsize=1_024)
def _united_states(code: str) -> tuple[float, float] | None:
    """Five digits, also ZIP+4; a code with fewer digits lost its leading zeros on the way."""
    digits, _, more = code.partition("-")
    if not (digits.isascii() and digits.isdigit() and (not more or more.isdigit())):
        return None
    if not 3 <= len(digits) <= 5:
        return None
    for entry in import_module("zipcodes").matching(digits.zfill(5)):
        if entry["lat"] and entry["long"]:
            return float(entry["lat"]), float(entry["long"])
    return None
