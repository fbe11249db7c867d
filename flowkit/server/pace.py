"""The rate limit: how many requests each credential may make, and what is said about it.

A token bucket for each credential: it holds *burst* requests, fills by *per_s* a second, and each
request takes one out. A request that is many (a batch) may take more than there is: the bucket then
owes, and the next request waits for that. So nothing is too large to pass, and the average holds.

Of a bucket only the moment at which it will be full again is kept; one that is full is as good as
none. Secrets are never here, only their hashes. The calls may come from any thread.

Source: protocol 3.4 (429), 12 (rate limit).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from flowkit import limits
from flowkit.errors import TooManyRequests
from flowkit.green import NativeLock, monotonic

__all__ = ["Budget", "Buckets", "Pace"]


_ONE = 0.9995
"""What passes for a whole request: a client that counts along need not do so to the last digit."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a credential may still ask for.

    Attributes:
        limit: requests that may be made at once.
        per_s: requests a second that come back.
        left: requests that may be made now; negative: that many are owed.
    """

    limit: int
    per_s: float
    left: float

    @property
    def wait_s(self) -> float:
        """Seconds until the next request may be made; 0: now."""
        return max(0.0, (1.0 - self.left) / self.per_s)

    @property
    def headers(self) -> dict[str, str]:
        """``x-ratelimit-*``: the bound, what is left, whole seconds until all of it is back.

        ``policy`` is the bound and the seconds in which as many come back, so that a client can
        tell how fast it may go on.
        """
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(max(0, math.floor(self.left))),
            "x-ratelimit-reset": str(math.ceil((self.limit - self.left) / self.per_s)),
            "x-ratelimit-policy": f"{self.limit};w={self.limit / self.per_s:.12g}",
        }


class Buckets:
    """One bucket for each key, at most *keys_max* of them.

    A key that comes for the first time finds a full bucket. Beyond the bound the one that was used
    longest ago goes, most likely a full one.

    Args:
        per_s: requests a second that come back.
        burst: requests that a full bucket holds, 1 or more.
        keys_max: most buckets kept.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        per_s: float,
        burst: int,
        *,
        keys_max: int = limits.rate_buckets_max,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.per_s = per_s
        self.burst = burst
        self._keys_max = keys_max
        self._clock = clock
        self._full_at: dict[Hashable, float] = {}  # by last use, oldest first
        self._lock = NativeLock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._full_at

    def __len__(self) -> int:
        return len(self._full_at)

    def look(self, key: Hashable) -> Budget:
        """What is left for *key*."""
        return self._budget(self._full_at.get(key, 0.0), self._clock())

    def take(self, key: Hashable, cost: int = 1, *, owing: bool = False) -> Budget | None:
        """Take *cost* requests; None if not even one is left, and then nothing is taken.

        With *owing* they are taken whatever is left.
        """
        with self._lock:
            now = self._clock()
            full_at = self._full_at.get(key, 0.0)
            if not owing and self._budget(full_at, now).left < _ONE:
                return None
            full_at = max(full_at, now) + cost / self.per_s
            self._full_at.pop(key, None)
            self._full_at[key] = full_at
            self._forget(now)
            return self._budget(full_at, now)

    def _budget(self, full_at: float, now: float) -> Budget:
        missing = max(0.0, full_at - now) * self.per_s
        # What was taken comes back in steps of a float: 0.9999999 is a whole request.
        return Budget(self.burst, self.per_s, round(self.burst - missing, 6))

    def _forget(self, now: float) -> None:
        """Let full buckets go, oldest first, two at a time; and any one beyond the bound.

        Some are kept all the same: who has one is known, and need not be looked up beforehand.
        """
        for _ in range(2):
            oldest = next(iter(self._full_at))
            is_full = self._full_at[oldest] <= now and len(self._full_at) > self._keys_max // 10
            if not is_full and len(self._full_at) <= self._keys_max:
                return
            del self._full_at[oldest]


class Pace:
    """The limit of one server.

    A credential that is known to be good has a bucket of its own, under the hash of its secret; so
    it can be refused before anything else is done. Wrong secrets are counted for each address that
    they come from, apart from every credential: nobody can use up what belongs to another.

    Args:
        per_s: requests a second of each credential; more than 0.
        burst: requests that it may make at once; 0: two seconds' worth.
        clock: seconds that never go back.
    """

    def __init__(
        self, per_s: float, burst: int = 0, *, clock: Callable[[], float] = monotonic
    ) -> None:
        burst = burst or math.ceil(2 * per_s)
        self.credentials = Buckets(per_s, burst, clock=clock)
        self.strangers = Buckets(per_s, burst, clock=clock)

    def admit(self, secret_hash: bytes) -> None:
        """Count a request with a good secret.

        Raises:
            TooManyRequests: there is nothing left for it.
        """
        if self.credentials.take(secret_hash) is None:
            raise self._too_many(self.credentials.look(secret_hash), "of one credential")

    def knows(self, secret_hash: bytes) -> bool:
        """Whether this secret was good before, as far as that is remembered."""
        return secret_hash in self.credentials

    def turn_away(self, peer: str) -> None:
        """Count a request with a wrong secret from that address.

        Raises:
            TooManyRequests: it has sent too many of them.
        """
        if self.strangers.take(peer) is None:
            raise self._too_many(
                self.strangers.look(peer), "without a good token, from one address"
            )

    def charge(self, secret_hash: bytes, cost: int) -> None:
        """Count *cost* further requests, for one that turned out to be many."""
        if cost > 0:
            self.credentials.take(secret_hash, cost, owing=True)

    def headers(self, secret_hash: bytes) -> dict[str, str]:
        """What every answer to that credential says of its budget."""
        return self.credentials.look(secret_hash).headers

    def _too_many(self, budget: Budget, whose: str) -> TooManyRequests:
        allowed = f"{budget.per_s:g} requests a second and {budget.limit} at once"
        return TooManyRequests(
            f"rate limit: {allowed} are allowed {whose}; the next one is in {budget.wait_s:.2g} s",
            retry_after_s=budget.wait_s,
        )
