"""What becomes of messages that somebody waits for.

A row that has left the outbox was stored, unless it had become a skip before. So whoever learns a
mark first notes which of the awaited rows are skips; it is the only one who lets rows go. And the
last skips that went out are remembered, for those who begin to wait after that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from flowkit.device import bounds
from flowkit.errors import BadRequest, DeadlineExceeded, OutboxError, UsageError

if TYPE_CHECKING:
    from flowkit.device.desk import Desk
    from flowkit.device.outbox import Outbox, Receipt, Row

__all__ = ["Fates", "Goal"]


@dataclass(slots=True)
class _Fate:
    """One message.

    Attributes:
        receipt: its name.
        waiters: how many wait.
        skip: why it was not sent, as far as that was seen before it left the outbox.
    """

    receipt: Receipt
    waiters: int = 0
    skip: str | None = None


class Goal:
    """That everything which is in an outbox now has been settled."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._look()

    def _look(self) -> None:
        self._box = self._outbox.box
        self._ends = {name: last for name, (_, last) in self._outbox.unsettled().items()}

    def is_reached(self) -> bool:
        """Whether it is; what is put meanwhile does not count."""
        if self._outbox.box != self._box:  # forked: everything has new numbers
            self._look()
        here = self._outbox.unsettled()
        self._ends = {
            name: end for name, end in self._ends.items() if name in here and here[name][0] < end
        }
        return not self._ends


class Fates:
    """The messages that somebody waits for.

    Args:
        outbox: where they are.
        desk: says when something was settled.
    """

    def __init__(self, outbox: Outbox, desk: Desk) -> None:
        self._outbox = outbox
        self._desk = desk
        self._waited: dict[str, _Fate] = {}
        self._skipped: deque[tuple[str, Row]] = deque(maxlen=bounds.sender_skips_kept)
        self._lock = Lock()

    def sending(self, box: str, rows: Iterable[Row]) -> None:
        """These are about to go out, perhaps once more: a skip among them is one for ever."""
        self._skipped.extend((box, row) for row in rows if row.skip is not None)

    def note(self, stream: str) -> None:
        """A mark of *stream* is about to be believed: what is a skip by now was not stored."""
        for fate in list(self._waited.values()):
            row = self._outbox.find(fate.receipt) if fate.receipt.stream == stream else None
            if row is not None and row.skip is not None:
                fate.skip = row.skip

    def wait(self, receipt: Receipt, timeout_s: float | None) -> None:
        """Return once it is stored; see ``Sender.wait``."""
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self._lock:
            fate = self._waited.setdefault(receipt.message, _Fate(receipt))
            fate.waiters += 1
        self._desk.flushing(1)
        try:
            while not self._is_decided(fate):
                seen = self._desk.settled
                if self._is_decided(fate):
                    return
                if self._desk.is_closing:
                    raise UsageError("the sender was closed while a message was waited for")
                if not self._desk.wait_settled(seen, deadline):
                    raise DeadlineExceeded("the message is queued, and not there yet")
        finally:
            self._desk.flushing(-1)
            with self._lock:
                fate.waiters -= 1
                if not fate.waiters:
                    self._waited.pop(receipt.message, None)

    def _is_decided(self, fate: _Fate) -> bool:
        """Whether it is stored; raises if it never will be."""
        row: Row | None = self._outbox.find(fate.receipt)
        if row is not None and row.skip is None:
            return False
        reason = (fate.skip or self._skip_of(fate.receipt)) if row is None else row.skip
        for letter in self._outbox.dead():  # it may have died before anybody waited
            if letter.message == fate.receipt.message:
                raise BadRequest(letter.error)
        if reason is None:
            return True
        raise OutboxError(self._outbox.path, f"the message was not sent: {reason}")

    def _skip_of(self, receipt: Receipt) -> str | None:
        """Why it was not sent, if a skip in its place has gone out lately."""
        for box, row in list(self._skipped):
            if (
                box == receipt.box
                and row.stream == receipt.stream
                and row.sequence <= receipt.sequence <= row.to
            ):
                return row.skip
        return None
