"""The lock of a data folder: one process at a time, and the second is told who the first is.

The lock is the kernel's (``flock``) on the file ``lock`` in the folder, so it ends with its process
however that ends, ``kill -9`` included. The file's text only says who holds it; it is never
removed, because a lock on a removed file excludes nobody."""

from __future__ import annotations

import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from flowkit.errors import SettingsError

__all__ = ["FILE_NAME", "FolderLock"]

FILE_NAME = "flowkit.sqlite"
"""The database's name in the data folder; its two WAL files stand beside it while it is open."""


class FolderLock:
    """Holds a data folder from the moment it is made until ``release``.

    Args:
        folder: the data folder; it must exist.
        since_ms: now, in milliseconds since 1970-01-01 UTC; shown to the second process.

    Raises:
        SettingsError: another process (or another store of this one) holds it; names that process.
    """

    def __init__(self, folder: Path, *, since_ms: int) -> None:
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 1_000, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise SettingsError(
                f"the data folder {folder} is in use by {holder or 'another process'}",
                hint="stop that process, or name another data folder",
            ) from None
        began = datetime.fromtimestamp(since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        text = f"process {os.getpid()} on {socket.gethostname()} since {began}\n"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Let the folder go; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
