"""Outbox: a durable queue of entries in numbered streams; it knows no network.

One file holds what a device has to say until a server has it. Each entry gets a number in its
stream and the id of its message in the commit that keeps it, so whoever sends it may send it again
and again without harm, and nothing goes without a word: what is dropped, refused or too old leaves
a skip in its place.

``put`` returns when the entry survives a power cut. Any number of threads may use an outbox; puts
at the same time share a commit. One process at a time has a file.

Source: positions 9.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from flowkit.device import binding, bounds, letters, marks, rows
from flowkit.device.ages import AgeClock
from flowkit.device.entries import (
    Pending,
    Receipt,
    as_bytes,
    check_priority,
    check_stream,
    encode,
    encode_value,
)
from flowkit.device.leaving import Leaving
from flowkit.device.letters import DeadLetter, Report
from flowkit.device.marks import Learned
from flowkit.device.opening import open_file
from flowkit.device.room import Policy, Room, check_disk
from flowkit.device.rows import Fresh, Ledger, Row
from flowkit.device.telling import Teller
from flowkit.errors import FlowKitError, SettingsError, UsageError

__all__ = ["DeadLetter", "Learned", "Outbox", "Pending", "Receipt", "Report", "Row"]

Db = sqlite3.Connection


class Outbox:
    """A durable queue in one SQLite file, made if it is not there (mode 0600).

    Args:
        path: the file; its folder must exist.
        device, instance: who writes; the file is bound to them. A file with entries of another one
            is refused; without entries it is bound anew, with a new box.
        rows_max, bytes_max: bounds on the entries that wait, and their bytes with payloads.
        age_max_s: seconds after which an entry is dropped as ``expired``; None for never.
        when_full: ``refuse``, ``drop oldest`` or ``drop by priority`` (the oldest of the lowest
            priority, but nothing of a higher one than what is put).
        keep_acked: entries of each stream kept after a server has them, to be sent again should the
            server be restored from a backup.
        durable: whether what is put survives a power cut; else only the end of the process.
        clock_ms: milliseconds since 1970.
        on_event: called with each ``Report``, in the thread that caused it; must not use the outbox
            of which it is told.

    Raises:
        SettingsError: the file is open elsewhere, no outbox, or another device's; a bound is none.
        OutboxError: the disk refuses.
    """

    def __init__(
        self,
        path: str,
        *,
        device: str | None = None,
        instance: str | None = None,
        rows_max: int = bounds.outbox_rows_max,
        bytes_max: int = bounds.outbox_bytes_max,
        age_max_s: float | None = None,
        when_full: Policy = "refuse",
        keep_acked: int = 0,
        durable: bool = True,
        clock_ms: Callable[[], int] | None = None,
        on_event: Callable[[Report], None] | None = None,
    ) -> None:
        if not isinstance(keep_acked, int) or keep_acked < 0:
            raise SettingsError(f"keep_acked is a whole number, not {keep_acked!r}")
        room = Room(str(path), rows_max, bytes_max, age_max_s, when_full)
        self.on_put: Callable[[], object] = lambda: None
        """Called after each commit that put something; it must not wait. A sender sets it."""
        self._keep = keep_acked
        self._ages = AgeClock(clock_ms)
        self._ledger = Ledger()
        self._leaving = Leaving(self._ledger, room, self._ages)
        opened = open_file(str(path), durable=durable)
        self._file = opened.file
        self._teller = Teller(self._file.path, on_event)
        self._file.on_rollback = self._ledger.load
        begin = partial(binding.begin, opened=opened, room=room, owner=(device, instance))
        try:
            self._teller.tell(self._file.write(lambda db: begin(db, self._ledger, self._ages)))
        except BaseException:
            self._file.close()
            raise

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    @property
    def box(self) -> str:
        """128 random bits, hexadecimal: what a server knows this file by. A fork changes it."""
        return self._ledger.box

    @property
    def device(self) -> str | None:
        """Whose entries these are, if the file is bound."""
        return self._ledger.device

    @property
    def instance(self) -> str | None:
        """The platform that the device belongs to, if the file is bound."""
        return self._ledger.instance

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._file.is_closed

    def __repr__(self) -> str:
        return f"<Outbox {self.path} box {self.box[:8]}… {self._ledger.count} waiting>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what other threads put, then close the file; harmless when repeated."""
        # Closed already, forked, or a full disk: the note of the clock is not worth an error.
        with contextlib.suppress(FlowKitError):
            self._file.write(lambda db: binding.note_clock(db, self._ages, always=True))
        self._file.close()

    def bind(self, device: str, instance: str | None = None) -> None:
        """Bind the file to a device that was not known when it was opened.

        Raises:
            SettingsError: it is bound to another one and holds entries of it.
        """
        at_ms = self._ages.wall_ms()
        self._teller.tell(
            self._file.write(
                lambda db: binding.bind(db, self._ledger, self.path, (device, instance), at_ms)
            )
        )

    # What is put

    def put(
        self,
        stream: str,
        entry: Mapping[str, Any],
        *,
        payload: bytes | bytearray | memoryview | None = None,
        priority: int = 0,
    ) -> Receipt:
        """Keep an entry; returns when it survives a power cut (see ``durable``).

        Args:
            stream: a name of 1 to 250 characters; order is kept within a stream.
            entry: what JSON can say, without ``origin``.
            payload: bytes of any size, kept beside the entry and read in pieces.
            priority: for ``drop by priority``; higher stays longer.

        Raises:
            UsageError: *entry* cannot be said in JSON, or the outbox is closed.
            LimitError: the entry or the name is too long; OutboxFull: there is no room for it.
            OutboxError: the disk refuses; if ``full``, nothing was kept.
        """
        fresh = self._fresh(encode(entry), payload, check_priority(priority))
        return self._put(check_stream(stream), [fresh])[0]

    def put_many(
        self, stream: str, entries: Iterable[Mapping[str, Any]], *, priority: int = 0
    ) -> list[Receipt]:
        """Keep several entries in one commit: all of them, or none."""
        check_priority(priority)
        given = [self._fresh(encode(entry), None, priority) for entry in entries]
        return self._put(check_stream(stream), given) if given else []

    def replace(
        self,
        stream: str,
        entry: Mapping[str, Any],
        *,
        payload: bytes | bytearray | memoryview | None = None,
        priority: int = 0,
    ) -> Receipt:
        """Keep an entry and drop the earlier ones of its stream as ``superseded``."""
        fresh = self._fresh(encode(entry), payload, check_priority(priority))
        return self._put(check_stream(stream), [fresh], replaces=True)[0]

    def _fresh(self, data: bytes, payload: Any, priority: int) -> Fresh:
        held = None if payload is None else as_bytes(payload)
        return Fresh(data, held, priority, self._ages.wall_ms())

    def _put(self, stream: str, given: list[Fresh], *, replaces: bool = False) -> list[Receipt]:
        size = sum(fresh.bytes for fresh in given)
        ledger = self._ledger

        def job(db: Db) -> tuple[list[Receipt], list[Report]]:
            ledger.check_line(stream)
            check_disk(db, self.path, size)
            now_ms = self._ages.now()
            told = self._leaving.expired_now_and_then(db, now_ms)
            if replaces and stream in ledger.lines:
                earlier = rows.waiting(db, ledger.lines[stream])
                self._leaving.take_out(db, earlier, "superseded")
            told += self._leaving.make_room(db, len(given), size, given[0].priority)
            line = ledger.line(db, stream)
            put = [ledger.put(db, line, fresh, now_ms) for fresh in given]
            binding.note_clock(db, self._ages)
            return [Receipt(stream, *each, ledger.box) for each in put], told

        receipts, told = self._file.write(job)
        self._teller.tell(told)
        self.on_put()
        return receipts

    # What waits

    @property
    def pending(self) -> Pending:
        """Entries that no server is known to have; skips do not count."""
        ledger = self._ledger
        found = self._file.read(lambda db: rows.oldest(db, ledger.cursor))
        return Pending(ledger.count, ledger.bytes, self._age_s(found))

    def pending_of(self, stream: str) -> Pending:
        """The same for one stream."""
        line = self._ledger.lines.get(check_stream(stream))
        if line is None:
            return Pending(0, 0, None)
        found = self._file.read(lambda db: rows.oldest_of(db, line.id))
        return Pending(line.count, line.bytes, self._age_s(found))

    def _age_s(self, aged_ms: int | None) -> float | None:
        return None if aged_ms is None else max(0, self._ages.now() - aged_ms) / 1000

    def streams(self) -> list[str]:
        """Names of the streams with something to send, those first that wait longest."""
        waiting = [line for line in list(self._ledger.lines.values()) if line.count or line.skips]
        waiting.sort(key=lambda line: line.first)
        return [line.name for line in waiting]

    def lines(self) -> list[str]:
        """Names of all streams that this box has ever had."""
        return list(self._ledger.lines)

    def unsettled(self) -> dict[str, tuple[int, int]]:
        """Of each stream with something to send: the last sequence settled, and the last given."""
        lines = list(self._ledger.lines.values())
        return {
            each.name: (each.acked, each.next - 1) for each in lines if each.acked < each.next - 1
        }

    def find(self, receipt: Receipt) -> Row | None:
        """The row that waits, or its skip, under a receipt; None once it is settled."""
        line = self._ledger.lines.get(receipt.stream)
        if line is None:
            return None
        sequence = receipt.sequence if receipt.box == self.box else None
        return self._file.read(lambda db: rows.find(db, line, sequence, receipt.message))

    def peek(
        self,
        stream: str,
        *,
        limit: int = bounds.outbox_peek_rows_max,
        bytes_max: int = bounds.outbox_peek_bytes_max,
    ) -> list[Row]:
        """The first rows of *stream*, in order, entries and skips.

        Args:
            limit: most rows.
            bytes_max: most bytes of entries together; the first row is always there.
        """
        return self._file.read(lambda db: list(rows.peek(db, stream, limit, bytes_max)))

    def payload(self, row: Row, offset: int, size: int) -> bytes:
        """Up to *size* bytes of what lies beside an entry, from *offset*; fewer at its end.

        Raises:
            UsageError: the row has none, or is no longer in the outbox.
        """
        place = row.payload
        if place is None:
            raise UsageError(f"entry {row.sequence} of {row.stream!r} has no payload")
        if offset < 0 or size < 0:
            raise UsageError("offset and size of a part of a payload are not below 0")
        if not size or offset >= row.payload_bytes:
            return b""
        found = self._file.read(lambda db: rows.piece(db, place, offset, size))
        if not found:
            raise UsageError(f"the payload of {row.stream!r} {row.sequence} is no longer there")
        return found

    # What was sent

    def sent(self, stream: str, up_to: int) -> None:
        """Note that rows up to the sequence *up_to* go out now; call it before they do.

        From then on a server may know their messages, so they stay as they are.

        Raises:
            UsageError: there is no such row.
        """
        known = self._ledger.known
        if up_to >= (end := known(stream).next):
            raise UsageError(f"{stream!r} has no entry {up_to}, the last is {end - 1}")
        self._file.write(lambda db: self._ledger.note_sent(db, known(stream), up_to))

    def take(
        self, streams: Sequence[str], *, limit: int, bytes_max: int
    ) -> tuple[str, dict[str, list[Row]]]:
        """The first rows of several streams, noted as sent in the same commit; and their box.

        What ``peek`` and ``sent`` do, without a moment in between in which a row could be dropped.
        """
        return self._file.write(lambda db: self._leaving.take(db, streams, limit, bytes_max))

    def learn(
        self,
        stream: str,
        sequence: int,
        message: str | None,
        *,
        went_back: bool = False,
        forks: bool = True,
    ) -> Learned:
        """Take in the mark that a server shows for *stream*, and act on it in the same commit.

        Args:
            sequence, message: the mark; 0 and None where the server has none.
            went_back: whether a mark below what was settled says that the server was restored: it
                came with the answer to a question for the marks, or with a refusal ``expected``.
            forks: False only says that the file has forked, and leaves the rest to ``fork``: who
                knows more marks of the box takes those in first.
        """
        mark = marks.Mark(sequence, message)
        how: Any = {"went_back": went_back, "forks": forks, "keep": self._keep}

        def job(db: Db) -> tuple[Learned, list[Report], int]:
            now, free = (self._ages.wall_ms(), self._ages.now()), binding.free_pages(db)
            learned, told = marks.take_in(db, self._ledger, stream, mark, **how, now=now)
            freed = binding.free_pages(db) - free
            if learned.kind == "settled":
                binding.give_back(db)
            return learned, told, freed

        learned, told, freed = self._file.write(job)
        self._teller.tell(told)
        binding.give_back_more(self._file.write, freed)
        return learned

    def fork(self, reason: str) -> str:
        """Begin a new box: what waits is numbered from 1, what was settled is forgotten.

        For a file that was copied or put back: a server has refused it as ``forked``.

        Returns:
            the new box.
        """
        at_ms = self._ages.wall_ms()
        told = self._file.write(
            lambda db: marks.report_fork(db, self._ledger, _short(reason), at_ms)
        )
        self._teller.tell([told])
        return str(told.facts["box"])

    def failed(self, failed: Sequence[Row], error: str) -> None:
        """Note that sending these rows failed: one attempt more, and the *error* (no secrets)."""
        text = _short(error)
        self._file.write(lambda db: rows.note_failures(db, self._ledger, failed, text))

    def ack(self, done: Iterable[Row]) -> int:
        """Take out exactly these rows, which reached their goal by other means than a ``Sender``.

        Returns:
            how many of them were still waiting.
        """
        given = list(done)
        return self._file.write(
            lambda db: self._leaving.take_out(db, self._leaving.waiting(db, given), "acknowledged")
        )

    def drop(self, dropped: Iterable[Row], reason: str) -> int:
        """Take these rows out unsent, with a skip in their place; they are counted in the reports.

        Returns:
            how many of them were still waiting.
        """
        given = list(dropped)

        def job(db: Db) -> tuple[int, list[Report]]:
            found = self._leaving.waiting(db, given)
            return len(found), self._leaving.drop(db, found, _short(reason))

        count, told = self._file.write(job)
        self._teller.tell(told)
        return count

    def expire(self) -> int:
        """Drop what is older than ``age_max_s``; the number of entries. ``put`` does it, too."""
        count = 0
        while True:
            found, told = self._file.write(self._leaving.expired)
            self._teller.tell(told)
            count += found
            if found < bounds.outbox_expire_rows_max:
                return count

    # What was refused, what happened, what is kept beside

    def bury(self, row: Row, error: str) -> None:
        """Put an entry that a server refused for good to the dead letters, a skip in its place.

        Raises:
            UsageError: the row is no longer waiting.
        """
        text = _short(error)
        self._teller.tell(self._file.write(lambda db: self._leaving.bury(db, row, text)))

    def dead(self) -> list[DeadLetter]:
        """The entries that were refused for good, the first to be refused first."""
        return self._file.read(letters.dead)

    def requeue(self, letter: int | None = None) -> list[Receipt]:
        """Put a dead letter (by its id), or all of them, at the end of their streams again.

        Raises:
            UsageError: there is no such letter. OutboxFull: there is no room; nothing was changed.
        """
        put, told = self._file.write(lambda db: self._leaving.come_back(db, letter))
        receipts = [Receipt(*each, self.box) for each in put]
        self._teller.tell(told)
        self.on_put()
        return receipts

    def discard(self, letter: int | None = None) -> int:
        """Delete a dead letter (by its id), or all of them; the number of those deleted.

        Raises:
            UsageError: there is no such letter.
        """

        def job(db: Db) -> int:
            found = letters.named(db, letter)
            for each in found:
                letters.remove(db, each.id, with_payload=True)
            binding.give_back(db)
            return len(found)

        return self._file.write(job)

    def reports(self) -> list[Report]:
        """What happened to entries without anybody's doing, the oldest first."""
        return self._file.read(letters.reports)

    def keep(self, name: str, value: Any) -> None:
        """Keep a small JSON value under *name* in the same file; None takes it out."""
        self.keep_all({name: value})

    def keep_all(self, values: Mapping[str, Any], *, spares_disk: bool = False) -> dict[str, int]:
        """Keep several values in one commit; the bytes of each, as JSON.

        Values that *spare* the *disk* are refused where a put would be.
        """
        given = {n: None if v is None else encode_value(n, v) for n, v in values.items()}
        spared = self.path if spares_disk else None
        self._file.write(lambda db: binding.keep_all(db, given, spared))
        return {name: len(data or b"") for name, data in given.items()}

    def kept_sizes(self, prefix: str) -> dict[str, int]:
        """The values whose names begin with *prefix*: the bytes of each, as JSON."""
        return self._file.read(lambda db: binding.kept_sizes(db, prefix))

    def kept(self, name: str) -> Any:
        """The value that is kept under *name*; None if there is none."""
        found = self._file.read(lambda db: binding.kept(db, name))
        return None if found is None else json.loads(found)


def _short(text: str) -> str:
    return str(text)[: bounds.outbox_error_chars_max]
