"""The bounded way from the event loop to the user's thread or greenlet, in batches.

The loop adds and flushes; one wake-up serves a batch. The user takes all that is there at once.
``is_full`` is advice: the keeper then stops reading, or pauses the readers that fill it.

Source: ``positions`` 8 (slow readers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowkit import limits
from flowkit.green import Cell, NativeLock, monotonic

__all__ = ["Inbox"]

_FAR_TIMES = 4


class Inbox:
    """Entries for one consumer.

    Args:
        touched: the loop's list of inboxes with something new, which its owner flushes.
        on_room: called, in the consumer's thread, when a full one has been emptied.
    """

    def __init__(self, touched: list[Inbox], on_room: Callable[[], object]) -> None:
        self._lock = NativeLock()
        self._touched = touched
        self._on_room = on_room
        self._new: list[Any] = []
        self._new_bytes = 0
        self._entries: list[Any] = []
        self._bytes = 0
        self._bell: Cell[None] | None = None
        self._is_closed = False
        self._is_discarded = False

    # --- the loop's side

    def add(self, entry: Any, size: int) -> None:
        """Add an entry that came as *size* bytes; the consumer sees it after ``flush``."""
        if not self._new:
            self._touched.append(self)
        self._new.append(entry)
        self._new_bytes += size

    def flush(self) -> None:
        """Hand over what was added."""
        with self._lock:
            self._hand_over()
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.set(None)

    def _hand_over(self) -> None:
        new, self._new = self._new, []
        size, self._new_bytes = self._new_bytes, 0
        if not self._is_discarded:
            self._entries += new
            self._bytes += size

    @property
    def is_full(self) -> bool:
        """Whether the consumer is behind by as much as it may be."""
        return (
            len(self._entries) >= limits.inbox_messages_max or self._bytes >= limits.inbox_bytes_max
        )

    @property
    def is_overfull(self) -> bool:
        """Whether it is behind by so much that nothing more may be taken for it at all."""
        return (
            len(self._entries) >= _FAR_TIMES * limits.inbox_messages_max
            or self._bytes >= _FAR_TIMES * limits.inbox_bytes_max
        )

    # --- either side

    def close(self, *, discard: bool = False) -> None:
        """Nothing comes any more. From either side what is there can be discarded; otherwise it is
        the loop that closes, and everything that was added can still be taken.
        """
        with self._lock:
            self._is_closed = True
            if discard:
                self._is_discarded = True
                self._entries = []
                self._bytes = 0
            else:
                self._hand_over()
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.set(None)

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    # --- the consumer's side

    def take(self, timeout_s: float | None = None) -> list[Any] | None:
        """All entries that are there, waiting for the first one.

        Returns:
            an empty list once it is closed and emptied; None if nothing came in time.
        """
        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            with self._lock:
                if self._entries or self._is_closed:
                    was_full = self.is_full
                    entries, self._entries = self._entries, []
                    self._bytes = 0
                    break
                if self._bell is None:
                    self._bell = Cell()
                bell = self._bell
            if not bell.wait(None if until is None else until - monotonic()):
                return None
        if was_full:
            self._on_room()
        return entries

    def renew(self) -> None:
        """In a forked child: nobody holds the lock here."""
        self._lock = NativeLock()
        self._bell = None

    def __len__(self) -> int:
        return len(self._entries)
