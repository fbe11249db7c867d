"""What waits for one connection: bounded in messages and bytes, in order, squashed on demand.

The queue is empty most of the time: a push is handed to the kernel in the step that made it. Only
what the kernel refuses stays here. ``position``, ``gap``, ``end`` and replies do not count against
the bound in messages; everything counts in bytes until it has left.

Rules: pure; it knows no socket. Readers are only compared.

Source: ``positions`` 8 (slow readers), 7.3 (what counts).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["COUNTED", "Entry", "Kind", "Pushes"]

Kind = Literal[
    "message", "item", "enter", "update", "leave", "snapshot", "position", "gap", "end", "reply"
]

COUNTED = frozenset({"message", "item", "enter", "update", "leave"})
"""What counts against the bound in messages."""

_SQUASHED = frozenset({"enter", "update", "leave"})


class Entry:
    """One message on its way.

    Attributes:
        frame: its bytes.
        reader: whose it is; None for a reply.
        kind: its type.
        key: the id of its drop, for what can be squashed.
        seq: the number of its change.
        position: the position of its change, as text.
    """

    __slots__ = ("frame", "key", "kind", "position", "reader", "seq")

    def __init__(
        self,
        frame: bytes,
        reader: Any,
        kind: Kind,
        key: str = "",
        *,
        seq: int = 0,
        position: str = "",
    ) -> None:
        self.frame = frame
        self.reader = reader
        self.kind = kind
        self.key = key
        self.seq = seq
        self.position = position


Remake = Callable[[Entry, Kind], bytes]
"""The frame of an entry as another kind of message, or as the mere position of its change."""


class Pushes:
    """The queue of one connection.

    Args:
        messages_max, bytes_max: its bound.

    Attributes:
        messages: counted messages that wait.
        bytes: bytes that wait, of everything.
    """

    __slots__ = ("_entries", "bytes", "bytes_max", "messages", "messages_max")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.messages = 0
        self.bytes = 0
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        """Whether the bound is reached."""
        return self.messages >= self.messages_max or self.bytes >= self.bytes_max

    @property
    def is_over_twice(self) -> bool:
        """Whether twice the bound is passed."""
        return self.messages > 2 * self.messages_max or self.bytes > 2 * self.bytes_max

    @property
    def is_nearly_twice(self) -> bool:
        """Whether so much is taken that twice the bound will soon be passed again."""
        return self.messages * 4 > 7 * self.messages_max or self.bytes * 4 > 7 * self.bytes_max

    @property
    def has_room(self) -> bool:
        """Whether no more than half of the bound is taken: enough to go on with."""
        return self.messages * 2 <= self.messages_max and self.bytes * 2 <= self.bytes_max

    def put(self, entry: Entry) -> None:
        """Add a message at the end; of two positions of one reader in a row the later one stays."""
        entries = self._entries
        if entry.kind == "position" and entries:
            last = entries[-1]
            if last.kind == "position" and last.reader is entry.reader:
                self._remove(entries.pop())
        entries.append(entry)
        self.bytes += len(entry.frame)
        if entry.kind in COUNTED:
            self.messages += 1

    def take(self, bytes_max: int) -> list[bytes]:
        """Take frames from the front, at least one, and others up to *bytes_max* bytes."""
        entries = self._entries
        frames: list[bytes] = []
        size = 0
        while entries and (not frames or size + len(entries[0].frame) <= bytes_max):
            entry = entries.popleft()
            self._remove(entry)
            frames.append(entry.frame)
            size += len(entry.frame)
        return frames

    def forget(self, reader: Any) -> None:
        """Remove everything that waits for *reader*."""
        self._keep([entry for entry in self._entries if entry.reader is not reader])

    def clear(self) -> None:
        """Remove everything."""
        self._keep([])

    def squash(self, view: Any, remake: Remake) -> None:
        """Leave one entry for each drop of a view, at its newest position.

        What waits of a snapshot, and before it, stays as it is. An entry only ever moves later,
        so nothing before the place of its reader is missing.
        """
        entries = list(self._entries)
        first = max(
            (
                index + 1
                for index, entry in enumerate(entries)
                if entry.reader is view and entry.kind in ("snapshot", "item")
            ),
            default=0,
        )
        squashed: dict[str, Entry] = {}
        others = entries[:first]
        for entry in entries[first:]:
            if entry.reader is not view or entry.kind not in (*_SQUASHED, "position"):
                others.append(entry)
            elif entry.kind == "position":
                squashed[f" {entry.position}"] = entry
            else:
                made = _joined(squashed.pop(entry.key, None), entry, remake)
                squashed[entry.key if made.kind != "position" else f" {entry.position}"] = made
        self._keep([*others, *_in_order(squashed.values())])

    def _keep(self, entries: list[Entry]) -> None:
        self._entries = deque(entries)
        self.bytes = sum(len(entry.frame) for entry in entries)
        self.messages = sum(entry.kind in COUNTED for entry in entries)

    def _remove(self, entry: Entry) -> None:
        self.bytes -= len(entry.frame)
        if entry.kind in COUNTED:
            self.messages -= 1


def _joined(before: Entry | None, entry: Entry, remake: Remake) -> Entry:
    """What two entries of one drop come to (``positions`` 8)."""
    if before is None:
        return entry
    kind: Kind = entry.kind
    if before.kind == "enter":
        kind = "position" if entry.kind == "leave" else "enter"
    elif before.kind == "leave" and entry.kind != "leave":
        kind = "update"
    if kind == entry.kind:
        return entry
    return Entry(
        remake(entry, kind),
        entry.reader,
        kind,
        entry.key,
        seq=entry.seq,
        position=entry.position,
    )


def _in_order(entries: Any) -> list[Entry]:
    """By position; a position that a later entry covers goes."""
    ordered = sorted(entries, key=lambda entry: entry.seq)
    return [
        entry
        for index, entry in enumerate(ordered)
        if entry.kind != "position" or index == len(ordered) - 1
    ]
