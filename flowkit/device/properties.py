"""The two documents that a device shares with its platform, as they stand in its file.

**Desired** properties come from the platform. A change that is told replaces them when its version
is newer, or of another generation: a platform that was restored, or a device that was made anew,
begins a new one. What is read whole, at the begin of each session, is believed whatever its number
is: it was asked for after everything that was heard before, so a lower version means that the
platform went back, also when its data was put back by hand and the generation is the same.

**Reported** properties go to the platform. The file has the document as the application last gave
it; what is sent is an entry of the outbox in a stream of its own, so it arrives once, in order, and
also after a crash, and a newer one takes the place of those that have not arrived.

Source: ``docs/reference/devices.rst`` (properties).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from flowkit.device.entries import Receipt
from flowkit.errors import FlowKitError, OutboxError, OutboxFull
from flowkit.protocol.properties import check_patch, check_properties, merge_patch

if TYPE_CHECKING:
    from flowkit.device.outbox import Outbox

__all__ = ["REPORTED", "DesiredProperties", "Properties", "ReportedProperties"]

_log = logging.getLogger(__name__)

REPORTED = "$reported"
"""The stream of the reported properties."""


@dataclass(frozen=True, slots=True)
class DesiredProperties:
    """What the platform wants of the device.

    Attributes:
        version: grows with every change, within one generation.
        values: the document.
        generation: names the history that *version* counts in.
    """

    version: int
    values: Mapping[str, Any]
    generation: str = ""


@dataclass(frozen=True, slots=True)
class ReportedProperties:
    """What the device has said of itself.

    Attributes:
        values: the document as the application last gave it; None if nothing was said yet.
        is_confirmed: whether the platform has it.
    """

    values: Mapping[str, Any] | None
    is_confirmed: bool


class Properties:
    """Both documents of one device; every method may be called from any thread.

    Args:
        outbox: the device's file.
        updated: called with each new state of the desired properties.
    """

    def __init__(self, outbox: Outbox, updated: Callable[[DesiredProperties], object]) -> None:
        self._outbox = outbox
        self._updated = updated
        self._lock = Lock()
        self._desired: DesiredProperties | None = None
        self.read()

    def read(self) -> None:
        """Look into the file, at the start and when it became another device's."""
        said = self._outbox.kept("desired")
        self._desired = DesiredProperties(**said) if said else None

    # Desired

    @property
    def desired(self) -> DesiredProperties:
        """The present state; version 0 and no values before the first was heard."""
        return self._desired or DesiredProperties(0, {})

    @property
    def is_known(self) -> bool:
        """Whether a state was heard, in this run or an earlier one."""
        return self._desired is not None

    def hear_all(self, said: Mapping[str, Any]) -> None:
        """Take in what ``GET /device/<id>/properties`` answered.

        It must have been asked for after all that was heard before, in the thread that hears.
        """
        generation = str(said.get("generation", ""))
        desired = said.get("desired") or {}
        self._hear(DesiredProperties(desired["version"], desired["values"], generation), whole=True)
        self._converge((said.get("reported") or {}).get("values") or {})

    def _converge(self, there: Mapping[str, Any]) -> None:
        """Whatever has happened in between, the platform ends with the last write."""
        with self._lock:
            if self._is_waiting:
                return
            present = self._outbox.kept("reported")
            if present is None:
                self._outbox.keep("reported", {"values": dict(there), "is_queued": True})
            elif present["values"] != there:
                # No room: the next session tries again, and this one goes on.
                with suppress(OutboxFull, OutboxError):
                    self._queue(present["values"])

    def hear_change(self, elems: Mapping[str, Any]) -> None:
        """Take in one change, as it is written to the Flow of the device's properties."""
        if elems.get("kind") == "desired":
            generation = str(elems.get("generation", ""))
            changed = DesiredProperties(elems["version"], elems["values"], generation)
            self._hear(changed, whole=False)

    def _hear(self, said: DesiredProperties, *, whole: bool) -> None:
        with self._lock:
            if self._desired is not None and not _is_news(said, self._desired, whole=whole):
                return
            values = {"version": said.version, "values": said.values, "generation": said.generation}
            self._outbox.keep("desired", values)
            self._desired = said
        self._updated(said)

    # Reported

    def report(self, values: Mapping[str, Any]) -> Receipt:
        """Make *values* the reported document; on disk on return.

        Raises:
            UsageError: it breaks a rule of documents.
        """
        _check(values)
        with self._lock:
            return self._queue(dict(values))

    def patch(self, changes: Mapping[str, Any]) -> Receipt:
        """Merge *changes* into the reported document; null removes; on disk on return.

        Raises:
            UsageError: it breaks a rule of documents.
        """
        check_patch(_plain(changes))
        with self._lock:
            present = self._outbox.kept("reported")
            if present is None:  # what the platform has is not known: it merges, in this order
                return self._outbox.put(REPORTED, {"reported": {"patch": dict(changes)}})
            merged = merge_patch(present["values"], changes)
            _check(merged)
            return self._queue(merged)

    def _queue(self, values: dict[str, Any]) -> Receipt:
        # The document first: if the process dies before the entry is there, it is queued at the
        # next start. In the other order the entry would be there and the document an old one.
        before = self._outbox.kept("reported")
        self._outbox.keep("reported", {"values": values, "is_queued": False})
        try:
            receipt = self._outbox.replace(REPORTED, {"reported": {"values": values}})
        except FlowKitError:
            self._outbox.keep("reported", before)  # what is refused leaves what was
            raise
        noted = {"values": values, "is_queued": True, "receipt": list(receipt)}
        self._outbox.keep("reported", noted)
        return receipt

    @property
    def reported(self) -> ReportedProperties:
        """The reported document."""
        present = self._outbox.kept("reported") or {}
        message = (present.get("receipt") or [None] * 4)[2]
        is_refused = any(letter.message == message for letter in self._outbox.dead())
        return ReportedProperties(present.get("values"), not (self.is_pending or is_refused))

    @property
    def is_pending(self) -> bool:
        """Whether the newest reported document is still to be sent."""
        if self._is_waiting:
            return True
        present = self._outbox.kept("reported") or {"is_queued": True}
        receipt = present.get("receipt")
        row = self._outbox.find(Receipt(*receipt)) if receipt else None
        is_dropped = row is not None and row.skip not in (None, "refused", "acknowledged")
        return is_dropped or not present["is_queued"]

    @property
    def _is_waiting(self) -> bool:
        return self._outbox.pending_of(REPORTED).count > 0

    def resume(self) -> None:
        """At a start: queue what the last run was about to."""
        with self._lock:
            present = self._outbox.kept("reported")
            if present is not None and not present["is_queued"]:
                self._queue(present["values"])


def _is_news(said: DesiredProperties, known: DesiredProperties, *, whole: bool) -> bool:
    if whole or said.generation != known.generation:
        return said != known
    return said.version > known.version


def _check(values: object) -> None:
    check_properties(_plain(values))


def _plain(values: object) -> object:
    """A mapping of any kind as the dict that the rules are about."""
    return dict(values) if isinstance(values, Mapping) else values
