"""``GET /health``: whether the store can read, and its writer answers, within a bound.

No token is asked for, so nothing is told but that, and asking often costs nothing: one look at the
store serves everybody for ``limits.health_fresh_s``. A look that hangs is not begun again.

Source: ``docs/howto/operate_a_server.rst``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from flowkit import limits
from flowkit.errors import FlowKitError
from flowkit.green import Cell, NativeLock, monotonic, start_thread

if TYPE_CHECKING:
    from flowkit.server.store.base import Reader, Store

__all__ = ["Health"]

_log = logging.getLogger(__name__)


def _look_up(transaction: Reader) -> None:
    """The least that a transaction can do; a commit of nothing writes nothing."""
    transaction.account("")


class Health:
    """Looks at a store, at most once at a time.

    Args:
        store: the store.
        timeout_s: seconds in which it must answer.
        fresh_s: seconds that one finding holds.
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout_s: float = limits.health_timeout_s,
        fresh_s: float = limits.health_fresh_s,
    ) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._fresh_s = fresh_s
        self._lock = NativeLock()
        self._look: Cell[str] | None = None
        self._begun_at_s = 0.0

    def fault(self) -> str:
        """What is wrong, in a few words; empty for nothing. Waits no longer than the bound."""
        with self._lock:
            look, now = self._look, monotonic()
            stale = look is None or (look.is_ready and now >= self._begun_at_s + self._fresh_s)
            if look is None or stale:
                look = self._look = Cell()
                self._begun_at_s = now
                start_thread(self._see, look, name="flowkit-health")
            left_s = self._begun_at_s + self._timeout_s - now
        if not look.wait(max(0.0, left_s)):
            return f"the store has not answered within {self._timeout_s:g} s"
        return look.get()

    def _see(self, look: Cell[str]) -> None:
        begun = monotonic()
        fault = self._tried("read", lambda: self._store.read(_look_up, quick=True))
        fault = fault or self._tried("write", lambda: self._store.write(_look_up))
        took_s = monotonic() - begun
        if not fault and took_s > self._timeout_s:
            fault = f"the store took {took_s:.1f} s to answer"
        look.set(fault)

    def _tried(self, what: str, attempt: Callable[[], object]) -> str:
        try:
            attempt()
        except FlowKitError as error:  # its words may name files: they are for the log
            _log.warning("the store cannot %s: %s", what, error)
            return f"the store cannot {what}"
        return ""
