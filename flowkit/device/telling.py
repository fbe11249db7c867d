"""Reports, told to whoever wants to know: the log, and the callback of the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from flowkit.device import bounds
from flowkit.device.letters import Report

__all__ = ["Teller"]

_log = logging.getLogger(__name__)


class Teller:
    """Tells what happened in one outbox.

    Args:
        path: the outbox.
        on_event: called with each report; what it raises is logged and harms nobody.
    """

    def __init__(self, path: str, on_event: Callable[[Report], None] | None) -> None:
        self._path = path
        self._on_event = on_event
        self._logged_s = -bounds.outbox_log_pause_s

    def tell(self, reports: Iterable[Report]) -> None:
        """Log the reports and hand them on; of those about dropped entries, one line a minute."""
        for report in reports:
            self._log(report)
            if self._on_event is None:
                continue
            try:
                self._on_event(report)
            except Exception:  # noqa: BLE001 - a callback of the user's harms no put
                _log.exception("the outbox %s: on_event failed", self._path)

    def _log(self, report: Report) -> None:
        if report.kind == "dropped":
            now = time.monotonic()
            if now - self._logged_s < bounds.outbox_log_pause_s:
                return
            self._logged_s = now
        facts = ", ".join(f"{name} {value!r}" for name, value in report.facts.items())
        _log.warning("the outbox %s: %s: %s", self._path, report.kind, facts)
