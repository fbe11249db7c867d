"""A copy of a store that may be in use, and a store from such a copy.

The copy is made with SQLite's online backup, of one snapshot, so it is the store of one moment
whatever is written meanwhile; the writer is never held up. It goes at half of the speed that it
could, so that whoever reads and writes keeps the other half.

Rules: nothing is called done before it has been checked with ``verify`` and is on disk. It grows
under another name and gets its own in one step, so a file of that name is always whole. A copy is
one file that only its owner may read: it holds everything, the digests of secrets included.

Source: ``docs/howto/backup_and_restore.rst``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from flowkit.errors import FlowKitError, SettingsError
from flowkit.green import monotonic, sleep
from flowkit.server.store.folder import FILE_NAME, FolderLock
from flowkit.server.store.schema import open_file, set_meta
from flowkit.server.store.verify import verify

__all__ = ["Progress", "backup", "restore", "store_file"]

Progress = Callable[[int, int], object]
"""Told the bytes that have been copied and those of the whole."""

_PAGES_PER_STEP = 256
_PAUSE_MAX_S = 0.05


def _silent(_done: int, _total: int) -> None:
    """For who does not want to know."""


def store_file(place: Path) -> Path:
    """The database at *place*, a data folder or the file itself.

    Raises:
        SettingsError: there is none.
    """
    file = place / FILE_NAME if place.is_dir() else place
    if not file.is_file():
        raise SettingsError(
            f"there is no store at {place}", hint="name the data folder of a server, or a backup"
        )
    return file


def backup(
    folder: Path, target: Path, *, replace: bool = False, progress: Progress = _silent
) -> int:
    """Copy the store in *folder* to the file *target*; how many bytes that are.

    Args:
        folder: a data folder, whether or not a server has it open.
        target: the file to make.
        replace: whether it may take the place of a file that is there.
        progress: told after each step.

    Raises:
        SettingsError: there is no store in *folder*, or *target* is there already.
        FlowKitError: the store or the copy is not sound; nothing was made.
    """
    source = store_file(folder)
    if target.exists() and not replace:
        raise SettingsError(f"{target} is there already", hint="name another file, or use --force")
    if not target.parent.is_dir():
        raise SettingsError(f"there is no folder {target.parent}", hint="make it first")
    return _copy(source, target, progress)


def restore(file: Path, folder: Path, *, now_ms: int, progress: Progress = _silent) -> int:
    """Make *folder* a data folder with the store of the backup *file*; how many bytes that are.

    The next opening has an epoch of its own, as every one, so no reader takes changes that were
    made after the backup for those that come after the restore. The store's ``restoration`` is
    drawn anew, so that every device sees by its generation that versions may have gone back.

    Args:
        file: a backup.
        folder: an empty folder, or one to be made.
        now_ms: the present time, in milliseconds since 1970-01-01 UTC.
        progress: told after each step.

    Raises:
        SettingsError: there is no *file*, or *folder* holds something already.
        FlowKitError: the backup is not sound; nothing was made.
    """
    source = store_file(file)
    is_new = not folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_full(folder)
    lock = FolderLock(folder, since_ms=now_ms)
    try:
        _refuse_full(folder)
        size = _copy(source, folder / FILE_NAME, progress, is_restored=True)
    except BaseException:
        (folder / "lock").unlink(missing_ok=True)
        if is_new:
            folder.rmdir()
        raise
    finally:
        lock.release()
    return size


def _refuse_full(folder: Path) -> None:
    held = sorted(name for name in os.listdir(folder) if name != "lock")
    if held:
        raise SettingsError(
            f"{folder} is not empty: it holds {held[0]}",
            hint="name a new folder; nothing is ever restored over something else",
        )


def _copy(source: Path, target: Path, progress: Progress, *, is_restored: bool = False) -> int:
    """Copy a store under another name, check it, and give it its own name.

    A backup leaves half of the speed to whoever uses the store; a restore need not.
    """
    growing = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    os.close(os.open(growing, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        _copy_pages(source, growing, progress, paced=not is_restored)
        _refuse_unsound(source, growing)
        if is_restored:
            _note_restoration(growing)
        _sync(growing)
        growing.rename(target)
        _sync(target.parent)
    except apsw.Error as error:
        raise FlowKitError(f"{source} could not be copied: {error}") from error
    finally:
        for name in ("", "-journal", "-wal", "-shm"):
            Path(f"{growing}{name}").unlink(missing_ok=True)
    return target.stat().st_size


def _copy_pages(source: Path, growing: Path, progress: Progress, *, paced: bool) -> None:
    reading = open_file(str(source), read_only=True)
    copy = apsw.Connection(str(growing))
    try:
        # Without a snapshot of its own the copy would begin anew with every commit of a server.
        reading.execute("BEGIN")
        page_bytes = int(reading.execute("PRAGMA page_size").get)
        reading.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        with copy.backup("main", reading, "main") as steps:
            for done, total in _steps(steps, paced=paced):
                progress(done * page_bytes, total * page_bytes)
        # One file: with a write-ahead log beside it, half of it could be left behind.
        copy.execute("PRAGMA journal_mode = delete").fetchall()
    finally:
        copy.close()
        reading.close()


def _steps(steps: apsw.Backup, *, paced: bool) -> Iterator[tuple[int, int]]:
    """Copy some pages at a time: how many are done, of how many; *paced*, pause as long as that."""
    while not steps.done:
        began = monotonic()
        steps.step(_PAGES_PER_STEP)
        yield steps.page_count - steps.remaining, steps.page_count
        if paced:
            sleep(min(monotonic() - began, _PAUSE_MAX_S))


def _refuse_unsound(source: Path, growing: Path) -> None:
    faults = verify(growing)
    if faults:
        raise FlowKitError(f"{source} is not sound, nothing was copied: {'; '.join(faults)}")


def _note_restoration(growing: Path) -> None:
    """Draw the text anew by which devices see that the store went back."""
    copy = apsw.Connection(str(growing))
    try:
        set_meta(copy, "restoration", secrets.token_hex(4))
    finally:
        copy.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
