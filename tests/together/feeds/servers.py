"""The servers of a world: in this process, where a test can lay its hands on them, or one of their
own, which can be killed."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Protocol

from flowkit.server.store.backup import backup, restore
from flowkit.server.store.sqlite import FILE_NAME, clock_ms
from flowkit.testing import Platform
from tests.server_process import ServerProcess
from tests.together.feeds.tiny import Tiny
from tests.together.feeds.wire import Door

__all__ = ["ACCOUNT", "InProcess", "OwnProcess", "Server"]

ACCOUNT = "nora"


class Server(Protocol):
    """What a world does with its server."""

    file: Path

    def start(self, era: int) -> Door:
        """Open the store and answer."""

    def stop(self) -> None:
        """Stop in order."""

    def kill(self) -> None:
        """Stop without a word, in the middle of everything, where that is possible."""

    def copy(self) -> None:
        """Make a backup of the running server, to go back to."""

    def go_back(self) -> bool:
        """Put the backup in the place of the store, which is stopped; whether there was one."""


class _Folder:
    """A data folder and a copy of it.

    Args:
        folder: where both are.
        tiny: the bounds.
    """

    def __init__(self, folder: Path, tiny: Tiny) -> None:
        self.data, self._copy = folder / "data", folder / "copy.sqlite"
        self.data.mkdir(parents=True)
        self.file = self.data / FILE_NAME
        self.tiny = tiny

    def copy(self) -> None:
        """Make a backup of the running server."""
        backup(self.data, self._copy, replace=True)

    def go_back(self) -> bool:
        """Put the backup in the place of the store."""
        if not self._copy.exists():
            return False
        shutil.rmtree(self.data)
        restore(self._copy, self.data, now_ms=clock_ms())
        self._copy.unlink()
        return True


class InProcess(_Folder):
    """A platform in this process. The caller has set the bounds (``Tiny.here``)."""

    platform: Platform | None = None

    def start(self, era: int) -> Door:
        """Open the store and answer over HTTP."""
        self.platform = Platform(self.data, account=ACCOUNT)
        live = self.platform.app.live
        live.queue_messages_max = self.tiny.queue_messages
        live.queue_bytes_max = self.tiny.queue_bytes
        return Door(self.platform.url, ACCOUNT, self.platform.token.token, era)

    def stop(self) -> None:
        """Close it."""
        if self.platform is not None:
            self.platform.close()
            self.platform = None

    kill = stop


class OwnProcess(_Folder):
    """``flowkit serve``, at the same port after each start."""

    _port = "0"
    _process: ServerProcess | None = None
    _secret: str | None = None

    def start(self, era: int) -> Door:
        """Start it."""
        flags = ("--port", self._port)
        self._process = ServerProcess(self.data, *flags, account=ACCOUNT, first=self.tiny.first)
        self._port = self._process.url.rpartition(":")[2]
        self._secret = self._secret or self._process.secret
        assert self._secret is not None
        return Door(self._process.url, ACCOUNT, self._secret, era)

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            code, _, errors = process.end(number)
            assert code == (0 if number is signal.SIGTERM else -number), errors
