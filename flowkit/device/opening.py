"""Opening a device's file: made if it is not there, refused if it is somebody else's.

A file that was an outbox and is damaged is set aside under another name, never deleted, and a new
one is begun. What can still be read of its entries is taken over (``salvage.py``).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from typing import NamedTuple

from flowkit.device.file import DeviceFile, FileLock, connect, crash_point, problem_of
from flowkit.device.schema import APPLICATION_ID, TABLES, VERSION
from flowkit.errors import OutboxError, SettingsError

__all__ = ["Opened", "check_kind", "open_file"]

_MAGIC = b"SQLite format 3\x00"


class Opened(NamedTuple):
    """A file that is ready, and the name under which a damaged one was set aside, and why."""

    file: DeviceFile
    aside: str | None
    problem: str | None


class _Damaged(Exception):
    """The file was an outbox, and cannot be used."""


def open_file(path: str, *, durable: bool = True) -> Opened:
    """Lock and open the file at *path*, making it if need be.

    Raises:
        SettingsError: it is open elsewhere, is no outbox, or was written by a newer flowkit.
        OutboxError: the disk refuses.
    """
    path = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(path)):
        raise SettingsError(f"the folder of the outbox {path} does not exist")
    if os.path.isdir(path):
        raise SettingsError(f"{path} is a folder, an outbox is a file")
    lock = FileLock(path)
    try:
        aside = problem = None
        try:
            _make_sure(path, lock.marked)
        except _Damaged as damage:
            problem = str(damage)
            aside = _set_aside(path)
            _make_sure(path, marked=False)
        file = DeviceFile(path, lock, durable=durable)
        lock.mark()
    except sqlite3.Error as error:
        lock.release()
        raise OutboxError(path, problem_of(error)) from error
    except OSError as error:
        lock.release()
        raise OutboxError(path, error.strerror or str(error)) from error
    except BaseException:
        lock.release()
        raise
    return Opened(file, aside, problem)


def _make_sure(path: str, marked: bool) -> None:
    """The file is there, is ours and is sound; a new one gets its tables.

    Raises:
        _Damaged: it was an outbox (*marked*: its lock says so) and cannot be read.
    """
    if not os.path.exists(path):
        _create(path)
    else:
        os.chmod(path, 0o600)
        _check_head(path, marked)
    try:
        _look_into(path)
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        if not marked and not _claims(path):
            raise SettingsError(f"{path} is a damaged database and no outbox of ours") from error
        raise _Damaged(problem_of(error)) from error


def _look_into(path: str) -> None:
    db = connect(path)
    try:
        if check_kind(db, path):
            _check_sound(db)
        else:
            _begin(db, path)
    finally:
        db.close()


def _create(path: str) -> None:
    """An empty file that nobody else may read, its name safe on the disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_folder(path)
    crash_point("file created")


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_head(path: str, marked: bool) -> None:
    """Refuse what is no database; a file that was an outbox and has lost its head is damaged."""
    with open(path, "rb") as file:
        head = file.read(len(_MAGIC))
    if head == _MAGIC or (not head and not marked):
        return
    if marked:
        raise _Damaged("it does not begin as a database" if head else "it is empty")
    raise SettingsError(
        f"{path} is no outbox", hint="name a file that does not exist yet, or an outbox"
    )


def _claims(path: str) -> bool:
    """Whether the header of a database says that it is an outbox."""
    with open(path, "rb") as file:
        return file.read(72)[68:] == APPLICATION_ID.to_bytes(4, "big")


def check_kind(db: sqlite3.Connection, path: str) -> bool:
    """Whether the database is an outbox of a version that is known; False if it is empty.

    Raises:
        SettingsError: it is another program's, or a newer flowkit's.
    """
    kind = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if kind == 0 and tables == 0:
        return False
    if kind != APPLICATION_ID:
        raise SettingsError(
            f"{path} is a database of another program",
            hint="name a file that does not exist yet, or an outbox",
        )
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise SettingsError(
            f"the outbox {path} was written by a newer flowkit (its tables are of version "
            f"{version}, this one knows {VERSION})",
            hint="update flowkit; the file is left as it is",
        )
    return True


def _check_sound(db: sqlite3.Connection) -> None:
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    box = db.execute("SELECT value FROM meta WHERE name='box'").fetchone()
    if found != "ok" or box is None:
        raise _Damaged(f"{found}" if found != "ok" else "it has no box")


def _begin(db: sqlite3.Connection, path: str) -> None:
    """Tables and marks, in one transaction: a power cut leaves an empty database, or an outbox."""
    db.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    _sync_folder(path)  # or the journal that was deleted just now may come back, and undo all this
    db.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}").fetchall()
    db.execute(f"PRAGMA user_version={VERSION}").fetchall()
    db.execute("INSERT INTO meta VALUES ('box', ?)", (secrets.token_hex(16),))
    crash_point("before commit")
    db.execute("COMMIT")


def _set_aside(path: str) -> str:
    """Rename the file and its log; the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside, number = f"{path}.broken-{stamp}", 1
    while os.path.exists(aside):
        number += 1
        aside = f"{path}.broken-{stamp}-{number}"
    if os.path.exists(f"{path}-wal"):
        os.rename(f"{path}-wal", f"{aside}-wal")
    os.rename(path, aside)
    if os.path.exists(f"{path}-shm"):
        os.unlink(f"{path}-shm")
    _sync_folder(path)
    crash_point("set aside")
    return aside
