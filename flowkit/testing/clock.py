"""A clock for the platform that stands still until it is told to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """Now, in milliseconds since 1970-01-01 UTC, as the test says; called by the platform.

    Args:
        now: where it begins: an aware datetime, or milliseconds; by default 2026-01-01 00:00 UTC.

    Attributes:
        now_ms: what it shows; may be set, backwards too.
    """

    def __init__(self, now: datetime | int = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if isinstance(now, datetime) and now.tzinfo is None:
            raise ValueError("a clock needs a datetime with a time zone")
        self.now_ms = now if isinstance(now, int) else round(now.timestamp() * 1000)

    def __call__(self) -> int:
        """What it shows."""
        return self.now_ms

    def advance(self, by: timedelta | float) -> int:
        """Go on by a timedelta or by seconds; what it shows then."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        self.now_ms += round(seconds * 1000)
        return self.now_ms

    def __repr__(self) -> str:
        return f"<FakeClock {datetime.fromtimestamp(self.now_ms / 1000, UTC).isoformat()}>"
