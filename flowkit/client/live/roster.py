"""The readers of one kept connection: subscribed, paused, tried again, ended.

A reader is subscribed from where it stands each time that a connection opens. It is tried again
when its flow may come back (``deleted``, by path) or the server was busy, and ends when it was
refused for good.

A user who is slow: if nobody else could use what comes, the connection is not read, and the
server's bound decides. Otherwise the readers in question pause, and resume from their places once
there is room, so that nobody is held up by another's loop.

Everything here runs in the event loop.

Source: ``positions`` 6 (readers), 8 (slow readers); protocol 9.2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from flowkit import green, limits
from flowkit.client.live.inbox import Inbox
from flowkit.client.live.reader import Reader, error_of_end
from flowkit.client.live.waiting import Pending
from flowkit.errors import ConnectionLost, FlowKitError

__all__ = ["Roster"]

_GONE = 404

Send = Callable[[Mapping[str, Any], Pending | None], object]


class Roster:
    """The readers of one runner.

    Args:
        send: sends a message on the present connection, and waits for its reply if one is given.
        timeout_s: how long the reply to a subscribe may take.
        on_retry: called when ``next_at`` has changed.

    Attributes:
        by_key: the readers by ``sub``, plain ones by their flow after a slash, which no ``sub`` is.
        is_open: whether there is a connection now.
    """

    def __init__(self, send: Send, timeout_s: float, on_retry: Callable[[], object]) -> None:
        self.by_key: dict[str, Reader] = {}
        self.is_open = False
        self._send = send
        self._timeout_s = timeout_s
        self._on_retry = on_retry
        self._full: list[Inbox] = []
        self._retrying: set[Reader] = set()

    # --- connections

    def open(self) -> None:
        """A connection is open: subscribe everybody."""
        self.is_open = True
        for reader in self.by_key.values():
            self._subscribe(reader)

    def lose(self) -> None:
        """It has gone."""
        self.is_open = False
        self._retrying.clear()
        self._full.clear()
        for reader in self.by_key.values():
            reader.lose()

    def end(self, error: FlowKitError | None) -> None:
        """There will be no other; *error* made it so, None if its user did."""
        self.is_open = False
        readers, self.by_key = self.by_key, {}
        for reader in readers.values() if error is not None else ():
            reader.finish(error)  # type: ignore[arg-type]  # not None here

    # --- one reader

    def add(self, key: str, reader: Reader) -> None:
        """A new reader, or another in place of one with the same key."""
        self.by_key[key] = reader
        if self.is_open:
            self._subscribe(reader)

    def remove(self, key: str) -> None:
        """A reader ends because its user wants it so."""
        reader = self.by_key.pop(key, None)
        if reader is None:
            return
        self._retrying.discard(reader)
        if self.is_open:
            self._send(reader.farewell(), None)

    def _subscribe(self, reader: Reader) -> None:
        reader.tries += 1
        reader.retry_at = None

        def done(error: FlowKitError | None, body: Any) -> None:
            if self.by_key.get(_key_of(reader)) is not reader or reader.is_paused:
                return
            if error is None:
                reader.begin(body)
            elif not isinstance(error, ConnectionLost):
                self._refused(reader, error)

        what = f"subscribe drop {reader.ask.path or reader.ask.flow_id}"
        self._send(reader.message(), Pending(what, done, self._timeout_s))

    def _refused(self, reader: Reader, error: FlowKitError) -> None:
        if not reader.may_come_back(error):
            self._drop(reader, error)
            return
        if getattr(error, "status", None) == _GONE:  # it went while nobody was connected
            reader.lose_flow({"type": "end", "reason": "deleted"})
        if self.is_open:  # else it is subscribed with the next one
            self._retry(reader)

    def _retry(self, reader: Reader) -> None:
        most = limits.reconnect_first_delay_s * 2.0 ** min(reader.tries, 30)
        wait_s = min(most, limits.resubscribe_delay_max_s)
        jitter = 0.5 + random.random() / 2  # noqa: S311 - jitter, no secret
        reader.retry_at = green.monotonic() + wait_s * jitter
        self._retrying.add(reader)
        self._on_retry()

    def _drop(self, reader: Reader, error: FlowKitError) -> None:
        self.by_key.pop(_key_of(reader), None)
        self._retrying.discard(reader)
        reader.finish(error)

    def take_end(self, said: dict[str, Any]) -> None:
        """An ``end`` message: for good, or until the flow is there again."""
        reader = self.by_key.get(str(said.get("sub")))
        if reader is None or not reader.is_heard:
            return
        reader.lose_flow(said)
        reader.is_heard = False
        if said.get("reason") == "deleted" and reader.ask.path is not None:
            self._retry(reader)
        else:
            self._drop(reader, error_of_end(said))

    # --- time

    def mind(self, now: float) -> None:
        """Subscribe those again whose time has come."""
        for reader in [one for one in self._retrying if (one.retry_at or 0.0) <= now]:
            self._retrying.discard(reader)
            self._subscribe(reader)

    @property
    def next_at(self) -> float | None:
        """When ``mind`` is to be called next."""
        times = [reader.retry_at for reader in self._retrying if reader.retry_at is not None]
        return min(times, default=None)

    # --- users who are slow

    def note_full(self, inbox: Inbox) -> None:
        """Something was put into *inbox*, which may be full now."""
        if inbox.is_full and inbox not in self._full:
            self._full.append(inbox)

    def must_stop(self, *, is_awaited: bool) -> bool:
        """Whether the connection is not to be read now. Readers may be paused instead.

        Args:
            is_awaited: somebody waits for a reply, which must not be held up.
        """
        if not self._full:
            return False
        self._full = [inbox for inbox in self._full if inbox.is_full and not inbox.is_closed]
        if not self._full:
            return False
        if is_awaited and not any(inbox.is_overfull for inbox in self._full):
            return False
        heard = [reader for reader in self.by_key.values() if reader.is_heard]
        if not is_awaited and all(reader.inbox in self._full for reader in heard):
            return True
        slow = [reader for reader in heard if reader.inbox in self._full]
        if any(reader.ask.sub is None for reader in slow):
            return True  # a plain subscription has no place to come back to
        for reader in slow:
            self._pause(reader)
        return False

    def _pause(self, reader: Reader) -> None:
        reader.is_heard = False
        reader.is_paused = True
        self._send(reader.farewell(), None)

    def on_room(self) -> None:
        """A full inbox was emptied."""
        for reader in self.by_key.values() if self.is_open else ():
            if reader.is_paused and (reader.inbox is None or not reader.inbox.is_full):
                reader.is_paused = False
                self._subscribe(reader)


def _key_of(reader: Reader) -> str:
    return reader.ask.sub if reader.ask.sub is not None else f"/{reader.flow}"
