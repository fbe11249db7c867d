"""``flowkit demo``: a real server, a week of earthquakes, and what flowkit is for."""

from __future__ import annotations

from flowkit.demo.run import run

__all__ = ["run"]
