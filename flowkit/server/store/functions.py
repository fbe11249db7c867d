"""The SQL functions that ``sql.py`` uses where SQL has no word of its own.

Each is the very function of ``flowkit.query`` that the Python evaluator calls, so that both agree.
They are deterministic and touch nothing. The time that regular expressions take is counted per
request.

Source: protocol 4.5; limits ``regex_budget_ms``.
"""

from __future__ import annotations

from time import perf_counter, thread_time
from typing import Any

import apsw
import orjson

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.query import meaning, patterns
from flowkit.server.sums import Total

__all__ = ["RegexBudget", "install"]


class RegexBudget:
    """Counts the time that one request spends in patterns, in SQL and in Python together.

    It counts time on the processor: a busy machine must not refuse what an idle one answers. Asking
    for that time costs as much as a short search, so searches are timed by the wall clock, and the
    sum is scaled by the thread's own share of it before anything is refused.
    """

    __slots__ = ("_cpu_s", "_limit_s", "_pending_s", "_spent_s", "_wall_s")

    def __init__(self, limit_ms: float = limits.regex_budget_ms) -> None:
        self._limit_s = limit_ms / 1000
        self.start()

    def start(self) -> None:
        """A new request begins, on the calling thread, with the whole budget."""
        self._spent_s = self._pending_s = 0.0
        self._wall_s, self._cpu_s = perf_counter(), thread_time()

    def search(self, compiled: Any, text: str) -> bool:
        """As ``patterns.search``.

        Raises:
            BadRequest: the budget of the request is spent.
        """
        began = perf_counter()
        found = patterns.search(compiled, text)
        self._pending_s += perf_counter() - began
        if self._spent_s + self._pending_s > self._limit_s:
            self._settle()
        return found

    def _settle(self) -> None:
        """Turn the wall time since the last look into processor time; refuse if it is too much."""
        wall_s, cpu_s = perf_counter(), thread_time()
        share = (cpu_s - self._cpu_s) / max(wall_s - self._wall_s, 1e-9)
        self._spent_s += self._pending_s * min(1.0, share)
        self._pending_s, self._wall_s, self._cpu_s = 0.0, wall_s, cpu_s
        if self._spent_s > self._limit_s:
            raise BadRequest(
                "filter: the regular expression takes too long: more than"
                f" {self._limit_s * 1000:g} ms for one request"
            )


def install(connection: apsw.Connection) -> RegexBudget:
    """Register the functions on *connection*; the budget returned is theirs. For one thread."""
    budget = RegexBudget()

    def regex(pattern: str, flags: str, text: Any) -> bool:
        return isinstance(text, str) and budget.search(patterns.compile(pattern, flags), text)

    functions: tuple[tuple[str, Any, int], ...] = (
        ("fk_regex", regex, 3),
        ("fk_modulo", meaning.modulo_is, 3),
        ("fk_near", _near, 5),
        ("fk_same", _same, 2),
        ("fk_has", _has, 3),
    )
    for name, function, count in functions:
        connection.create_scalar_function(name, function, count, deterministic=True)
    connection.create_aggregate_function("fk_sum", lambda: (Total(), _add, _sum), 1)
    connection.create_aggregate_function("fk_avg", lambda: (Total(), _add, _mean), 1)
    return budget


def _add(total: Total, *numbers: Any) -> None:
    total.add(numbers[0])


def _sum(total: Total) -> float | None:
    return total.sum


def _mean(total: Total) -> float | None:
    return total.mean


def _near(lat: Any, lon: Any, centre_lat: float, centre_lon: float, radius_km: float) -> bool:
    return meaning.near(lat, lon, (centre_lat, centre_lon), radius_km)


def _same(one: str, other: str) -> bool:
    """Deep equality of two JSON texts."""
    return meaning.same(orjson.loads(one), orjson.loads(other))


def _has(elems: str, types: str | None, type_name: str) -> bool:
    return meaning.has(orjson.loads(elems), orjson.loads(types) if types else None, type_name)
