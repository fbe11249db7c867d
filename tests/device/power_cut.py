"""A disk that is recorded: what a file may look like after the power went.

``recorded`` puts apsw, with a VFS of our own, in the place of the standard library's SQLite under
an outbox. It is another build of the same library, and writes the same files by the same rules.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from flowkit.device import file, opening

SECTOR = 512


class Recorder(apsw.VFS):
    """Takes down each write, truncation, deletion and sync, in order.

    Attributes:
        log: (kind, file, offset or size, bytes), and what the test adds: ("done", what).
    """

    def __init__(self) -> None:
        super().__init__("recorder", base="")
        self.log: list[tuple[Any, ...]] = []

    def xOpen(self, name, flags):  # noqa: N802 - SQLite's name
        """Open a file that is recorded."""
        return Recorded(self.log, name, flags)

    def xDelete(self, name, sync):  # noqa: N802 - SQLite's name
        """Delete a file."""
        self.log.append(("delete", name))
        super().xDelete(name, sync)


class Recorded(apsw.VFSFile):
    """One file of it."""

    def __init__(self, log, name, flags) -> None:
        self.log = log
        self.name = name.filename() if isinstance(name, apsw.URIFilename) else name
        super().__init__("", name, flags)

    def xWrite(self, data, offset):  # noqa: N802 - SQLite's name
        """Write, which a disk may do at any time until it is synced."""
        self.log.append(("write", self.name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size):  # noqa: N802 - SQLite's name
        """Cut off."""
        self.log.append(("truncate", self.name, size))
        super().xTruncate(size)

    def xSync(self, flags):  # noqa: N802 - SQLite's name
        """Now it is on the disk."""
        super().xSync(flags)
        self.log.append(("sync", self.name))


class Connection:
    """As much of the standard library's connection as an outbox uses."""

    def __init__(self, path, *, durable=True, reads=False) -> None:
        self._db = apsw.Connection(path, vfs="recorder")
        self._db.set_busy_timeout(5000)
        synchronous = "FULL" if durable else "NORMAL"
        self.execute(f"PRAGMA synchronous={synchronous}")
        self.execute("PRAGMA wal_autocheckpoint=20")
        self.execute("PRAGMA query_only=ON" if reads else "PRAGMA query_only=OFF")

    def execute(self, statement, values=()):
        """Run a statement to its end."""
        return Result(self._db, self._db.execute(statement, values).fetchall())

    def executemany(self, statement, rows):
        """Run a statement for each row of values."""
        self._db.executemany(statement, rows)

    @property
    def in_transaction(self):
        """Whether one was begun."""
        return self._db.in_transaction

    @property
    def total_changes(self):
        """Rows changed so far."""
        return self._db.total_changes()

    def close(self):
        """Close it."""
        self._db.close()


class Result:
    """What a statement gave."""

    def __init__(self, db, rows) -> None:
        self.lastrowid = db.last_insert_rowid()
        self._rows = rows

    def fetchall(self):
        """All rows."""
        return self._rows

    def fetchone(self):
        """The first row."""
        return self._rows[0] if self._rows else None

    def __iter__(self):
        return iter(self._rows)


@contextmanager
def recorded(monkeypatch):
    """Outboxes that are opened in the block write through a recorder."""
    recorder = Recorder()
    with monkeypatch.context() as patched:
        patched.setattr(file, "connect", Connection)
        patched.setattr(opening, "connect", Connection)
        yield recorder
    recorder.unregister()


def after_cut(log, cut: int, chance: random.Random, folder: Path) -> str:
    """Write files as a disk may have them when the power goes after *cut* entries of the log.

    What was synced is there. Of what was written to a file since its last sync, each piece is there
    or not, or the first sectors of it are.

    Returns:
        the path of the database.
    """
    synced = {}
    for place, entry in enumerate(log[:cut]):
        if entry[0] == "sync":
            synced[entry[1]] = place
    last = max(synced.values(), default=-1)
    files: dict[str, bytearray] = {}
    for place, entry in enumerate(log[:cut]):
        kind, name = entry[:2]
        if kind in ("sync", "done"):
            continue
        held = files.setdefault(name, bytearray())
        # What is deleted is gone once the folder was synced, which an outbox does when it is made.
        safe = place < (last if kind == "delete" else synced.get(name, -1))
        if not safe and chance.random() < 0.4:
            continue
        if kind == "delete":
            held.clear()
        elif kind == "truncate":
            del held[entry[2] :]
        else:
            data = entry[3]
            if not safe and chance.random() < 0.4:
                data = data[: chance.randrange(0, len(data) // SECTOR + 1) * SECTOR]
            held.extend(bytes(max(0, entry[2] - len(held))))
            held[entry[2] : entry[2] + len(data)] = data
    folder.mkdir()
    for name, held in files.items():
        (folder / Path(name).name).write_bytes(held)
    return str(folder / "box.db")
