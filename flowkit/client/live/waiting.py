"""Commands that wait for their replies, by ``msgId``.

An entry is taken out before its ``done`` is called, so that one that raises is not called twice;
one whose reply does not come in time fails and is forgotten; a reply that comes later is ignored.

Source: protocol 9.3 (replies), 9.6 (a loss); 13.2 (defects 69, 70, 78).
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from flowkit.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FlowKitError,
    PlatformError,
    ProtocolError,
)
from flowkit.protocol.envelope import read_envelope

__all__ = ["Pending", "Waiting", "outcome_of"]

_log = logging.getLogger("flowkit.client")

Done = Callable[[FlowKitError | None, Any], object]


@dataclass(eq=False, slots=True)
class Pending:
    """A command that waits.

    Attributes:
        what: the command, for errors: ``subscribe drop``.
        done: called in the loop with ``(error, body)``, one of them None.
        timeout_s: how long a reply may take.
        is_sent: whether it has gone out on the present connection.
    """

    what: str
    done: Done
    timeout_s: float
    is_sent: bool = False


class Waiting:
    """All that wait on one connection. It lives in the loop."""

    def __init__(self) -> None:
        self._pending: dict[Any, Pending] = {}
        self._times: list[tuple[float, int, Any, Pending]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, msg_id: Any) -> bool:
        return msg_id in self._pending

    def add(self, msg_id: Any, pending: Pending, now: float) -> None:
        """Wait for the reply with that id; an older command with the same id fails."""
        self.drop(msg_id, ProtocolError("another command was sent with the same msgId"))
        self._pending[msg_id] = pending
        entry = (now + pending.timeout_s, next(self._order), msg_id, pending)
        heapq.heappush(self._times, entry)

    def drop(self, msg_id: Any, error: FlowKitError) -> None:
        """Give up one that waits, with *error*; nothing if none does."""
        pending = self._pending.pop(msg_id, None)
        if pending is not None:
            _call(pending, error, None)

    def sent(self, msg_id: Any) -> None:
        """The command with that id has gone out."""
        if msg_id in self._pending:
            self._pending[msg_id].is_sent = True

    def reply(self, said: Mapping[str, Any]) -> FlowKitError | None:
        """A reply came: hand it to whoever waits for it.

        Returns:
            the error of a failed reply that nobody waits for.
        """
        error, body = outcome_of(said)
        head = said.get("head")
        msg_id = head.get("msgId") if isinstance(head, dict) else None
        is_id = isinstance(msg_id, str | int | float)
        pending = self._pending.pop(msg_id, None) if is_id else None
        if pending is None:
            return error
        if isinstance(error, PlatformError):
            error.method = pending.what
            error.path = "(WebSocket)"
        _call(pending, error, body)
        return None

    def expire(self, now: float) -> bool:
        """Fail those whose time is up; whether there were any."""
        before = len(self._pending)
        while self._times and (self._times[0][0] <= now or self._is_over(self._times[0])):
            _, _, msg_id, pending = heapq.heappop(self._times)
            if self._pending.get(msg_id) is pending:
                late = f"no reply to {pending.what} came within {pending.timeout_s:g} s"
                self.drop(msg_id, DeadlineExceeded(late))
        return len(self._pending) < before

    def _is_over(self, entry: tuple[float, int, Any, Pending]) -> bool:
        return self._pending.get(entry[2]) is not entry[3]

    @property
    def next_at(self) -> float | None:
        """When ``expire`` is to be called next."""
        return self._times[0][0] if self._times else None

    def lose(self) -> None:
        """The connection was lost: what had been sent can never be answered."""
        for msg_id in [one for one, pending in self._pending.items() if pending.is_sent]:
            what = self._pending[msg_id].what
            self.drop(msg_id, ConnectionLost(f"the connection was lost before the reply to {what}"))

    def end(self, error: FlowKitError) -> None:
        """Nothing is answered any more."""
        for msg_id in list(self._pending):
            self.drop(msg_id, error)


def outcome_of(said: Mapping[str, Any]) -> tuple[FlowKitError | None, Any]:
    """Error and body of a reply."""
    head = said.get("head")
    status = head.get("status") if isinstance(head, dict) else None
    is_ok = isinstance(head, dict) and head.get("ok", True)
    known = status if isinstance(status, int) and not isinstance(status, bool) else None
    try:
        return None, read_envelope(known or (200 if is_ok else 400), said).body
    except PlatformError as error:
        return error, None
    except (ValueError, TypeError):
        return ProtocolError("a reply is not an envelope with a head"), None


def _call(pending: Pending, error: FlowKitError | None, body: Any) -> None:
    try:
        pending.done(error, body)
    except Exception:  # noqa: BLE001 - one that waits must not take the connection from the others
        _log.exception("taking the reply to %s failed", pending.what)
