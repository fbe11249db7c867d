"""A subscription's place in a file, so that a script goes on where it stopped.

Each write is a new file that takes the old one's place, so a reader of it never sees half of one.
While messages come without a pause it is written every ``limits.place_write_s``, else after each
message; it is made safe against a loss of power at most every ``limits.place_sync_s``, and at the
end. So a process that is killed gets the messages of the last moments again, and never misses any.

Source: ``positions`` 10 ("not promised": once across a restart of the reader's process).
"""

from __future__ import annotations

import json
import os
import weakref
from contextlib import suppress
from os import PathLike
from typing import Any

from flowkit import limits
from flowkit.errors import SettingsError, UsageError
from flowkit.green import NativeLock, monotonic
from flowkit.protocol.positions import Position

__all__ = ["PlaceFile"]

_KIND = "flowkit place 1"


class PlaceFile:
    """The place of one subscription in one file.

    Args:
        path: of the file; its folder must be there.
        flow: id or path of the flow, as it was asked for.

    Raises:
        SettingsError: the file is there and is no place of that flow, or it cannot be read. It is
            left as it is.
        UsageError: another subscription of this process keeps its place there.

    Attributes:
        place: what stood in it, None if there was no file.
    """

    def __init__(self, path: str | PathLike[str], flow: str) -> None:
        self._path = os.fspath(path)
        self._flow = flow
        self._process = os.getpid()
        self._lock = NativeLock()
        self._noted: str | None = None
        self._written_at = 0.0
        self._synced_at = 0.0
        self._is_unsynced = False
        self._is_closed = False
        self.place = self._read()
        self._join()

    def _read(self) -> str | None:
        folder = os.path.dirname(os.path.abspath(self._path))
        if not os.path.isdir(folder):
            raise SettingsError(f"resume_file={self._path!r}: there is no folder {folder}")
        try:
            with open(self._path, encoding="utf-8") as file:
                text = file.read(65_536)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._fault(f"cannot be read: {error}") from error
        try:
            found: Any = json.loads(text)
            flow, place = found["flow"], found["place"]
            is_ours = found["kind"] == _KIND
            position = Position.parse(place)
        except (ValueError, TypeError, KeyError):
            raise self._fault("is not the place of a subscription") from None
        if not is_ours or flow != self._flow:
            raise self._fault(f"belongs to the flow {flow}, not to {self._flow}")
        if not self._flow.startswith("/") and position.flow_id != self._flow:
            raise self._fault(f"holds a place in the flow {position.flow_id}, not in {self._flow}")
        return str(place)

    def _join(self) -> None:
        whole = os.path.realpath(self._path)
        known = _in_use.get(whole)
        if known is not None and not known._is_closed and known._process == self._process:
            raise UsageError(
                f"resume_file={self._path!r} is in use by another subscription of this process",
                hint="each has a file of its own; close() that one first to go on in its place",
            )
        _in_use[whole] = self

    def _fault(self, what: str) -> SettingsError:
        return SettingsError(
            f"resume_file={self._path!r} {what}",
            hint="name another file, or remove this one to begin anew",
        )

    def note(self, place: str) -> None:
        """The subscription stands at *place* now; written soon."""
        self._noted = place
        if monotonic() - self._written_at >= limits.place_write_s:
            self.write()

    def write(self, *, sync: bool = False) -> None:
        """Write what was noted, if anything was.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        if os.getpid() != self._process:  # a fork: the file is the parent's to write
            return
        with self._lock:
            now = monotonic()
            is_due = sync or now - self._synced_at >= limits.place_sync_s
            if self._noted is None and not (sync and self._is_unsynced):
                return
            place = self._noted or self.place
            self._replace(json.dumps({"kind": _KIND, "flow": self._flow, "place": place}), is_due)
            self.place, self._noted = place, None
            self._written_at = now
            self._is_unsynced = not is_due
            if is_due:
                self._synced_at = now

    def _replace(self, text: str, sync: bool) -> None:
        beside = f"{self._path}.{os.getpid()}.new"
        try:
            with open(beside, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(beside, self._path)
        except OSError:
            with suppress(OSError):
                os.unlink(beside)
            raise

    def close(self) -> None:
        """Write what was noted and make it safe."""
        self._is_closed = True
        self.write(sync=True)


_in_use: weakref.WeakValueDictionary[str, PlaceFile] = weakref.WeakValueDictionary()
