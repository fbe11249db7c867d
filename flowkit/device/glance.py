"""Looking into the file of an outbox without having it: for the command line, beside its owner.

Nothing is written, no lock is taken; what is seen is what was committed last.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, TypeVar

from flowkit.device import letters, rows
from flowkit.device.file import connect, holder_of, problem_of
from flowkit.device.letters import DeadLetter, Report
from flowkit.device.opening import check_kind
from flowkit.device.rows import Row
from flowkit.errors import OutboxError, SettingsError

__all__ = ["Glance", "Held"]

T = TypeVar("T")


class Held(NamedTuple):
    """What waits in one stream."""

    stream: str
    entries: int
    bytes: int
    skips: int
    settled: int


class Glance:
    """An outbox, read only.

    Raises:
        SettingsError: there is no such file, or it is no outbox.
        OutboxError: it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        if not os.path.isfile(self.path):
            raise SettingsError(f"there is no file {self.path}")
        try:
            with open(self.path, "rb") as file:
                if file.read(15) != b"SQLite format 3":
                    raise SettingsError(f"{self.path} is no outbox")
        except OSError as error:
            raise OutboxError(self.path, error.strerror or str(error)) from error
        self._db = self._tried(lambda: connect(self.path, reads=True))
        try:
            if not self._tried(lambda: check_kind(self._db, self.path)):
                raise SettingsError(f"{self.path} is no outbox: it is empty")
            self._meta = dict(self._all("SELECT name, value FROM meta"))
        except BaseException:
            self._db.close()
            raise

    @property
    def box(self) -> str:
        """What a server knows it by."""
        return str(self._meta["box"])

    @property
    def device(self) -> str | None:
        """Whose entries these are."""
        return self._meta.get("device")

    @property
    def instance(self) -> str | None:
        """The platform that they are for."""
        return self._meta.get("instance")

    @property
    def holder(self) -> str | None:
        """Which process has the file open, in words; None for none."""
        return holder_of(self.path)

    def held(self) -> list[Held]:
        """What waits, by stream."""
        found = self._all(
            "SELECT name, coalesce(sum(row.state=0), 0), coalesce(sum(row.bytes), 0),"
            " coalesce(sum(row.state=1), 0), acked FROM stream LEFT JOIN row"
            " ON row.stream = stream.id AND row.sequence > stream.acked GROUP BY stream.id"
            " ORDER BY name"
        )
        return [Held(*each) for each in found]

    def rows(self, stream: str, limit: int = -1) -> Iterator[Row]:
        """What waits in *stream*, in order."""
        try:
            yield from rows.peek(self._db, stream, limit, 1 << 62)
        except sqlite3.Error as error:
            raise OutboxError(self.path, problem_of(error)) from error

    def dead(self) -> list[DeadLetter]:
        """Its dead letters."""
        return self._tried(lambda: letters.dead(self._db))

    def reports(self) -> list[Report]:
        """What happened in it."""
        return self._tried(lambda: letters.reports(self._db))

    def oldest_ms(self) -> int | None:
        """When the first entry that waits was made, by the clock of the device."""
        found: int | None = self._all("SELECT min(made_ms) FROM row WHERE state=0")[0][0]
        return found

    def payload(self, held: Row | DeadLetter) -> bytes:
        """All that lies beside an entry that waits, or beside a dead one."""
        size = held.payload_bytes
        if not size:
            return b""
        if isinstance(held, DeadLetter):
            place = self._tried(lambda: letters.payload_place(self._db, held.id))
        else:
            place = held.payload
        return b"" if place is None else self._tried(lambda: rows.piece(self._db, place, 0, size))

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _all(self, statement: str) -> list[tuple[Any, ...]]:
        return self._tried(lambda: self._db.execute(statement).fetchall())

    def _tried(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except sqlite3.Error as error:
            raise OutboxError(self.path, problem_of(error)) from error
