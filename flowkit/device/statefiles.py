"""Where a streamer keeps what is not sent yet, when it is given no file of its own.

The files lie in ``$XDG_STATE_HOME/flowkit/streams`` (``~/.local/state`` without that variable). The
streamers of one account at one platform use the first that is free; what an earlier one left in
the others goes out with it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from flowkit.device import bounds
from flowkit.device.file import FileLock, connect
from flowkit.device.outbox import Outbox
from flowkit.errors import FlowKitError, OutboxError, SettingsError

__all__ = ["folder", "open_free", "remove_if_empty"]


def folder() -> Path:
    """Where the files are, whether or not it exists."""
    given = os.environ.get("XDG_STATE_HOME") or ""
    base = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    return base / "flowkit" / "streams"


def open_free(host: str, account: str, **options: Any) -> tuple[Outbox, list[Outbox]]:
    """A file for a streamer, and those with something in them that nobody has open.

    Raises:
        SettingsError: all of them are in use. OutboxError: the folder cannot be made.
    """
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutboxError(str(place), error.strerror or str(error)) from error
    digest = hashlib.sha256(f"{host}\n{account}".encode()).hexdigest()[:16]
    own: Outbox | None = None
    left = []
    for number in range(1, bounds.streamer_files_max + 1):
        path = place / f"{digest}-{number}.db"
        if own is not None and not path.exists():
            continue
        try:
            opened = Outbox(str(path), device=account, instance=host, **options)
        except SettingsError:
            continue  # another process has it
        if own is None:
            own = opened
        elif opened.streams():
            left.append(opened)
        else:
            opened.close()
            remove_if_empty(opened.path)
    if own is None:
        raise SettingsError(f"all {bounds.streamer_files_max} files in {place} are in use")
    return own, left


def remove_if_empty(path: str) -> bool:
    """Delete the file of a closed outbox if nothing is in it; its lock stays, others may use it."""
    try:
        lock = FileLock(path)
    except FlowKitError:
        return False  # somebody has opened it meanwhile
    try:
        db = connect(path, reads=True)
        try:
            rows = db.execute("SELECT (SELECT count(*) FROM row) + (SELECT count(*) FROM dead)")
            is_empty = rows.fetchone()[0] == 0
        finally:
            db.close()
        if is_empty:
            for name in (path, f"{path}-wal", f"{path}-shm"):
                Path(name).unlink(missing_ok=True)
        return bool(is_empty)
    except (OSError, sqlite3.Error):
        return False
    finally:
        lock.release()
