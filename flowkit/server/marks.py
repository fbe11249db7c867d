"""The lines of senders: what each entry with an ``origin`` makes of the mark of its line.

A **line** is a numbered stream of one outbox: (scope, box, stream). Its **mark** is the number and
the message of the last one that was settled. A mark moves by one entry at a time, over no hole, and
never back; so a duplicate can never be a refusal, and nothing that is sent again is stored twice.

Pure: a mark and the entries of a request in, verdicts out. ``handlers/arrays.py`` acts on them.

Source: ``positions`` 9 (rules 1 to 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Conflict
from flowkit.server.store.base import Mark, Skip

__all__ = ["BOX", "MESSAGE", "Line", "Origin", "read_origin"]

BOX = re.compile("[0-9a-f]{32}")
"""The name of an outbox: 128 random bits."""

MESSAGE = re.compile("[0-9a-f]{16,64}")
"""The name of a message: at least 64 random bits."""
_MEMBERS = frozenset({"box", "stream", "sequence", "message", "after", "to", "skip"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry stands in its line.

    Attributes:
        box: the outbox, 32 hexadecimal digits.
        stream: the stream in it.
        sequence: its number, from 1.
        message: its own name, 16 to 64 hexadecimal digits; of a range, that of the last number.
        after: the message of the number before it, where the request says so.
        last: the last number that it settles; ``sequence`` but for a range that is skipped.
        skip: why nothing is sent under these numbers; None for what is to be stored.
    """

    box: str
    stream: str
    sequence: int
    message: str
    after: str | None = None
    last: int = 0
    skip: str | None = None

    @property
    def line(self) -> tuple[str, str]:
        """The box and the stream."""
        return self.box, self.stream


def read_origin(value: Any) -> Origin:
    """The ``origin`` of an entry.

    Raises:
        BadRequest: one sentence per fault.
    """
    if not isinstance(value, dict):
        raise BadRequest("origin: must be an object")
    faults = [f"origin.{name}: is not a member" for name in sorted(set(value) - _MEMBERS)]
    box, stream, message, after = (
        value.get(name) for name in ("box", "stream", "message", "after")
    )
    sequence, skip = value.get("sequence"), value.get("skip")
    last = value.get("to", sequence)
    if not _is_text(box, BOX):
        faults.append("origin.box: must be 32 hexadecimal digits, 0-9 and a-f")
    if not _is_short(stream, limits.origin_stream_chars_max):
        faults.append(f"origin.stream: must be 1 to {limits.origin_stream_chars_max} characters")
    if not _is_text(message, MESSAGE):
        faults.append("origin.message: must be 16 to 64 hexadecimal digits, 0-9 and a-f")
    if after is not None and not _is_text(after, MESSAGE):
        faults.append("origin.after: must be 16 to 64 hexadecimal digits, 0-9 and a-f")
    if skip is not None and not _is_short(skip, limits.origin_reason_chars_max):
        faults.append(f"origin.skip: must be 1 to {limits.origin_reason_chars_max} characters")
    faults.extend(_number_faults(sequence, last, skip, after))
    if faults:
        raise BadRequest(*faults[:100])
    # what has no fault is what the attributes say
    return Origin(box, stream, sequence, message, after, last, skip)  # type: ignore[arg-type]


def _number_faults(sequence: Any, last: Any, skip: Any, after: Any) -> Iterable[str]:
    if not _is_number(sequence):
        yield "origin.sequence: must be a whole number from 1"
    elif sequence == 1 and after is not None:
        yield "origin.after: there is no message before the first"
    elif last != sequence and skip is None:
        yield "origin.to: is for skip alone"
    elif not _is_number(last) or last < sequence:
        yield "origin.to: must be a whole number from origin.sequence on"


def _is_text(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_short(value: Any, chars_max: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= chars_max


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 < value <= limits.integer_max


class Line:
    """A line for the time of one request: judges its entries, in their order.

    Args:
        mark: the mark as the store has it.
        origins: of all entries of this line in the request.

    Attributes:
        mark: as the entries so far have moved it.
        skips: the ranges that they settled without a drop.
        duplicates, refusals: how many were there already, and how many were refused by a rule.
    """

    def __init__(self, mark: Mark, origins: Iterable[Origin]) -> None:
        self.before = self.mark = mark
        self.skips: list[Skip] = []
        self.duplicates = self.refusals = 0
        self._is_stopped = False
        self._is_judged = False
        self._is_forked = any(self._contradicts(origin) for origin in origins)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever settled in it."""
        return self.mark.sequence == 0

    @property
    def has_moved(self) -> bool:
        """Whether there is anything to keep."""
        return self.mark is not self.before

    def judge(self, origin: Origin) -> bool:
        """Whether an entry is to be done now; False if all of it was done before.

        Raises:
            Conflict: ``forked …``, another writer has been at this line; ``expected …``, something
                before it is missing or was refused. The first word is part of the contract.
            BadRequest: the request does not say what stands before the first of its entries.
        """
        is_first, self._is_judged = not self._is_judged, True
        at = self.mark.sequence
        if self._is_forked or self._contradicts(origin):
            self._is_forked = True
            self.refusals += 1
            raise Conflict(f"forked at {at}: another message stands there than the one named")
        if self._is_stopped or origin.sequence > at + 1:
            self._is_stopped = True
            self.refusals += 1
            raise Conflict(f"expected {at + 1} and not {origin.sequence}, nothing was done")
        if is_first and origin.after is None and origin.sequence > 1:
            raise BadRequest("origin.after: is required in the first entry of a stream")
        if origin.last <= at:
            self.duplicates += 1
            return False
        return True

    def _contradicts(self, origin: Origin) -> bool:
        """Whether an entry names another message than the mark's for the mark's number."""
        at, message = self.mark.sequence, self.mark.message
        if origin.last == at and origin.message != message:
            return True
        return origin.sequence == at + 1 and at > 0 and origin.after not in (None, message)

    def settle(self, origin: Origin, at_ms: int) -> int:
        """An entry that was to be done has been: the mark moves to it; how many numbers that is."""
        first = self.mark.sequence + 1
        count = origin.last - self.mark.sequence
        skipped = self.mark.skipped
        if origin.skip is not None:
            self.skips.append(Skip(first, origin.last, origin.skip, at_ms))
            skipped += count
        self.mark = Mark(origin.last, origin.message, skipped)
        return count

    def stop(self) -> None:
        """An entry was refused: nothing behind it is tried."""
        self._is_stopped = True
