"""Positions: "everything up to and including this change has been dealt with".

A position names a flow, an epoch (one uninterrupted writing history of the store) and the number
of a change under it. ``judge`` says what a reader may rely on who comes back with one.

Rules of this room (``flowkit/protocol``): pure. Users take a position as it is; it grants nothing.

Source: ``positions`` 1 (words), 3.2 (marks), 5 (position and epoch).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["START", "Book", "Position", "Verdict", "judge"]

START = "start"
"""The ``since`` that asks for everything still held."""

_TEXT = re.compile(r"p1\.(f[0-9a-f]{24})\.([a-z0-9]{1,16})\.(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the changes of a flow.

    Attributes:
        flow_id: the id of the flow.
        epoch: the writing history that the change belongs to.
        seq: the number of the change, 0 for none yet.
    """

    flow_id: str
    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that *text* names.

        Raises:
            ValueError: it names none.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError("is not a position: they look like p1.<flow id>.<epoch>.<number>")
        return cls(found[1], found[2], int(found[3]))

    def __str__(self) -> str:
        return f"p1.{self.flow_id}.{self.epoch}.{self.seq}"


@dataclass(frozen=True, slots=True)
class Book:
    """What a flow says of its changes at one moment.

    Attributes:
        flow_id: the flow.
        head: the newest change, 0 for none.
        mark: the largest number that was forgotten of what the reader needs: E or V.
        mark_e: E: new states of all changes after it are held.
        epochs: name and first number of each epoch that is known, oldest first.
        epoch: the epoch in which the next change will be.
    """

    flow_id: str
    head: int
    mark: int
    mark_e: int
    epochs: Sequence[tuple[str, int]]
    epoch: str

    def at(self, seq: int) -> Position:
        """The position of the change with that number."""
        name = self.epoch if not self.epochs else self.epochs[0][0]
        for epoch, first in self.epochs:
            if first > seq:
                break
            name = epoch
        return Position(self.flow_id, name, seq)

    def last_under(self, epoch: str) -> int | None:
        """The last number written under *epoch*; None for one that is not known."""
        for index, (name, _) in enumerate(self.epochs):
            if name == epoch:
                return self.epochs[index + 1][1] - 1 if index + 1 < len(self.epochs) else self.head
        return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where delivery begins, and the gap before it.

    Attributes:
        after: changes after this number are delivered.
        gap: why changes may be missing, None if none are. ``forgotten`` is told from the marks
            themselves, page by page, and never stands here.
        known: the number from which on they may be missing; None for all that the reader has not
            seen.
    """

    after: int
    gap: Literal["rolled-back", "unknown", "recreated"] | None = None
    known: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the place of the reader is a change of this very history."""
        return self.gap is None


def judge(since: Position | None, book: Book) -> Verdict:
    """What a reader gets who comes back with *since* (``positions`` 5.3).

    Args:
        since: its place; None for "start". One of another flow means that this one was made anew
            at the same path.
        book: the flow, read in the transaction of the first page.
    """
    if since is None:
        return Verdict(0)
    if since.flow_id != book.flow_id:
        return Verdict(0, "recreated")
    if since.seq == 0:
        return Verdict(0)
    last = book.last_under(since.epoch)
    if last is not None:
        if since.seq <= last:
            return Verdict(since.seq)
        return Verdict(last, "rolled-back", last)
    if since.seq <= book.mark_e:
        return Verdict(book.mark_e, "unknown")
    return Verdict(book.head, "unknown")
