"""Streamer: ``log(key, value)``, and it gets there.

Three lines from the import to data on the platform. Each call keeps its event in a file and
returns; a sender takes it from there, in order, once, whenever there is a network. A bucket is a
flow; the events of one call are one drop, its elements by key, with ``_time`` beside them: when it
happened, in milliseconds since 1970. The platform's own time of the drop says when it came.

With ``db=`` that file keeps the events, and an event survives a power cut when ``log`` returns.
Without it a file in the user's state folder does (``statefiles.py``), and what ``log`` returned for
survives the end of the process by whatever cause, but not always a power cut.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Iterable, Mapping
from itertools import groupby
from time import monotonic
from typing import Any, Self

from flowkit.client.credentials import Profile
from flowkit.device import bounds
from flowkit.device.buckets import Bucket, bucket, make_flow
from flowkit.device.flatten import check_key, flatten, plain
from flowkit.device.inifile import find
from flowkit.device.instants import Unit, event_ms
from flowkit.device.link import HttpLink
from flowkit.device.offline import Event, EventFile, read_events
from flowkit.device.outbox import Outbox, Pending, Receipt
from flowkit.device.sender import Sender
from flowkit.device.statefiles import open_free, remove_if_empty
from flowkit.errors import (
    BadRequest,
    DeadlineExceeded,
    FlowKitError,
    OutboxError,
    OutboxFull,
    SettingsError,
    UsageError,
)

__all__ = ["Streamer"]

_log = logging.getLogger(__name__)
_live: weakref.WeakSet[Streamer] = weakref.WeakSet()
_UPLOAD_EVENTS = 500


class Streamer:
    """Sends events to a bucket.

    Args:
        bucket_name: for people. bucket_key: identifies the bucket in its account; without it the
            name does, so it is the same bucket at each start.
        access_key: the secret of the account or a token.
        ini_file_location: an ini file with settings (``inifile.py`` says what is looked up where).
        debug_level: 0 logs warnings, 1 also what goes on, 2 everything; from 2 on, ``log`` raises
            when an event could not be kept, rather than logging that.
        buffer_size: events that are sent at once, without waiting ``flush_s`` for others.
        offline: True writes a CSV file for a later ``upload`` and needs no network at all.
        use_async: False waits in each call until the platform has the event.
        db: a file for events that are not sent yet, of this streamer alone.
        host, account, profile: where the platform is and as whom, if not from elsewhere.
        unit: of numbers given as ``epoch``: ``s``, ``ms`` or ``ns``.
        flush_s: seconds that an event waits for others.
        timeout_s: seconds that a call waits without ``use_async``.

    Raises:
        SettingsError: no bucket, host, account or secret is known, or the file is another's.
    """

    def __init__(
        self,
        bucket_name: str = "",
        bucket_key: str = "",
        access_key: str = "",
        ini_file_location: str | None = None,
        debug_level: int = 0,
        *,
        buffer_size: int = bounds.streamer_buffer_events,
        offline: bool | None = None,
        use_async: bool = True,
        db: str | os.PathLike[str] | None = None,
        host: str | None = None,
        account: str | None = None,
        profile: str | None = None,
        unit: Unit = "s",
        flush_s: float = bounds.streamer_flush_s,
        timeout_s: float = bounds.streamer_wait_s,
    ) -> None:
        event_ms(0, unit)
        given = Profile(host, account, access_key or None)
        found = find(given, file=ini_file_location, profile=profile)
        self._raises = debug_level >= 2
        _show(debug_level)
        self._unit, self._timeout_s, self._waits = unit, timeout_s, not use_async
        self._closed = False
        self._outbox: Outbox | None = None
        self._senders: list[Sender] = []
        self._file: EventFile | None = None
        self._temporary = db is None
        self._account = found.profile.account or ""
        self._said: set[Bucket] = set()
        if found.offline if offline is None else offline:
            self._bucket = bucket(self._account, bucket_name or found.bucket, bucket_key)
            name = found.offline_file or "isstreamer_out"
            self._file = EventFile(name if name.endswith(".csv") else f"{name}.csv")
            return
        link = _link(found.profile, found.where)
        self._bucket = bucket(self._account, bucket_name or found.bucket, bucket_key)
        if db is not None:
            boxes = [Outbox(os.fspath(db), device=self._account, instance=link.url)]
        else:
            own, left = open_free(link.url, self._account, durable=False)
            boxes = [own, *left]
        self._outbox = boxes[0]
        self._senders = [
            Sender(
                box,
                link,
                linger_s=flush_s,
                linger_rows=max(1, buffer_size),
                on_missing=lambda path: self._make_flow(link, path),
            )
            for box in boxes
        ]
        _live.add(self)
        self._say_bucket(self._bucket)

    @property
    def bucket(self) -> Bucket:
        """Where events go now: key, name, and the path of the flow."""
        return self._bucket

    @property
    def pending(self) -> Pending:
        """Events that are not known to be stored yet; waits for nothing."""
        counts = [sender.outbox.pending for sender in self._senders]
        ages = [each.oldest_age_s for each in counts if each.oldest_age_s is not None]
        return Pending(
            sum(each.count for each in counts),
            sum(each.bytes for each in counts),
            max(ages, default=None),
        )

    def log(self, key: str, value: Any, epoch: Any = None, *, unit: Unit | None = None) -> None:
        """Keep one event, to be sent. Never waits for the network, unless ``use_async=False``.

        Args:
            key: names the stream of values that this is one of.
            value: text, a finite number, a boolean or None; dates become ISO text.
            epoch: when it happened: a number in *unit*, an aware datetime or ISO text; now if None.
            unit: of this number, if another than the streamer's.

        Raises:
            UsageError: key, value or epoch are none, or the streamer is closed.
            LimitError: the key or value is too long.
            OutboxError, OutboxFull: from debug level 2 on: the event could not be kept.
        """
        self._keep({check_key(key): plain(value, key)}, epoch, unit)

    def log_object(
        self,
        obj: Any,
        key_prefix: str | None = None,
        epoch: Any = None,
        *,
        unit: Unit | None = None,
    ) -> None:
        """Keep all values of an object as one event, at one time.

        Args:
            obj: a mapping, a sequence, a dataclass or anything with attributes; nested ones too.
            key_prefix: in place of ``list``, ``dict`` or the name of the class; empty for none.
            epoch, unit: as for ``log``.

        Raises:
            UsageError: as ``log``; or there is nothing in the object.
        """
        self._keep(flatten(obj, key_prefix), epoch, unit)

    def set_bucket(self, bucket_name: str = "", bucket_key: str = "", retries: int = 3) -> None:
        """Send what is logged from now on to another bucket; what was logged stays in its own.

        Args:
            bucket_name, bucket_key: as for the streamer.
            retries: has no meaning; older scripts give it.
        """
        del retries
        self._bucket = bucket(self._account, bucket_name, bucket_key)
        self._say_bucket(self._bucket)

    def flush(self, timeout_s: float | None = bounds.streamer_close_s) -> Pending:
        """Send what is kept now, and wait until the platform has it.

        Args:
            timeout_s: most seconds to wait; None for as long as it takes.

        Returns:
            what is still to be sent.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        for sender in self._senders:
            sender.flush(_left_s(deadline))
        return self.pending

    def close(self, timeout_s: float = bounds.streamer_close_s) -> Pending:
        """Send what can be sent within the time, then end; always returns.

        Returns:
            what is still to be sent. It stays in its file, and the next streamer of the account
            sends it; a log line says where it is.
        """
        if self._file is not None:
            self._file.close()
        if self._closed or not self._senders:
            self._closed = True
            return Pending(0, 0, None)
        self._closed = True
        deadline = monotonic() + timeout_s
        left = [sender.close(_left_s(deadline) or 0) for sender in self._senders]
        for sender, pending in zip(self._senders, left, strict=True):
            path = sender.outbox.path
            sender.outbox.close()
            if pending.count:
                _log.warning("%d events are still to be sent; they are in %s", pending.count, path)
            elif self._temporary:
                remove_if_empty(path)
        self._senders = []
        _live.discard(self)
        ages = [each.oldest_age_s for each in left if each.oldest_age_s is not None]
        count, size = sum(each.count for each in left), sum(each.bytes for each in left)
        return Pending(count, size, max(ages, default=None))

    def upload(self, file: str | os.PathLike[str]) -> int:
        """Keep all events of a CSV file, to be sent: one of ``offline``, or of the older streamer.

        Events without a bucket of their own go to the present one. All lines are read before the
        first is kept; calling it twice keeps them twice.

        Returns:
            the number of events.

        Raises:
            UsageError: a line of the file is no event; nothing was kept.
        """
        path = os.fspath(file)
        outbox = self._online()
        for event in read_events(path):
            self._check_event(event)
        count = 0
        for place, events in groupby(read_events(path), key=self._bucket_of):
            self._say_bucket(place)
            batch: list[dict[str, Any]] = []
            for event in events:
                batch.append(_entry(place.path, event.elems, event.time_ms))
                if len(batch) == _UPLOAD_EVENTS:
                    count += len(outbox.put_many(place.path, batch))
                    batch = []
            count += len(outbox.put_many(place.path, batch))
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self._file.path if self._file is not None else self._bucket.path
        return f"<Streamer to {where}{' closed' if self._closed else ''}>"

    def _keep(self, elems: Mapping[str, Any], epoch: Any, unit: Unit | None) -> None:
        time_ms, place = event_ms(epoch, unit or self._unit), self._bucket
        try:
            if self._file is not None:
                self._file.add(time_ms, place.key, place.name, elems)
                return
            receipt = self._online().put(place.path, _entry(place.path, elems, time_ms))
        except (OutboxError, OutboxFull) as error:
            self._failed("an event was not kept", error)
            return
        if self._waits:
            self._wait(receipt)

    def _wait(self, receipt: Receipt) -> None:
        try:
            self._senders[0].wait(receipt, self._timeout_s)
        except (BadRequest, DeadlineExceeded, OutboxError) as error:
            self._failed("an event is not stored", error)

    def _failed(self, what: str, error: FlowKitError) -> None:
        if self._raises:
            raise error
        _log.error("%s: %s", what, error)

    def _online(self) -> Outbox:
        if self._closed:
            raise UsageError("this streamer is closed", hint="make another one")
        if self._outbox is None:
            raise UsageError("this streamer is offline", hint="upload with one that is not")
        return self._outbox

    def _check_event(self, event: Event) -> None:
        self._bucket_of(event)
        for key, value in event.elems.items():
            plain(value, check_key(key))

    def _bucket_of(self, event: Event) -> Bucket:
        if not event.bucket_key and not event.bucket_name:
            return self._bucket
        return bucket(self._account, event.bucket_name, event.bucket_key)

    def _say_bucket(self, place: Bucket) -> None:
        """Keep the name of a bucket beside its events: whoever sends them may have to make it."""
        if self._outbox is None or place in self._said:
            return
        name = f"bucket {place.path}"
        if self._outbox.kept(name) is None:
            self._outbox.keep(name, place.name)
        self._said.add(place)

    def _make_flow(self, link: HttpLink, path: str) -> bool:
        """The flow of a bucket, made at its first event."""
        names = (sender.outbox.kept(f"bucket {path}") for sender in self._senders)
        return make_flow(link, path, next((name for name in names if name), path))


def _left_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())


def _entry(path: str, elems: Mapping[str, Any], time_ms: float) -> dict[str, Any]:
    return {"path": path, "elems": {**elems, "_time": time_ms}}


def _link(profile: Profile, where: str) -> HttpLink:
    """The way to the platform.

    Raises:
        SettingsError: something of it is not known; the error says where it was looked for.
    """
    missing: Iterable[str] = [
        name
        for name, value in (
            ("host", profile.host),
            ("account", profile.account),
            ("access_key", profile.token),
        )
        if not value
    ]
    if missing:
        raise SettingsError(
            f"the streamer has no {' and no '.join(missing)}",
            hint="give it, set FLOWKIT_HOST, FLOWKIT_ACCOUNT and FLOWKIT_TOKEN, or save a profile; "
            + where,
        )
    return HttpLink(str(profile.host), str(profile.account), str(profile.token))


def _show(debug_level: int) -> None:
    """Let the log of the device side be seen as the level asks, if nobody has set it up."""
    if debug_level < 1:
        return
    logger = logging.getLogger("flowkit.device")
    logger.setLevel(logging.INFO if debug_level == 1 else logging.DEBUG)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())


@atexit.register
def _close_all() -> None:
    """At the end of the program: what is left is sent for some seconds, else it stays in its file.

    Registered after the sender's own, so it runs before that.
    """
    for streamer in list(_live):
        streamer.close()


os.register_at_fork(after_in_child=_live.clear)
